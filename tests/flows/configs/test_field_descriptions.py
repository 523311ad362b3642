"""Descriptions of a run's fields, as an editor shows them beside the YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows.configs.run_file import run_file_schema
from flows.configs.text_run import TextRun
from tests.house_rules import QUESTION, names_concept


def described_fields(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(class and field, description) of every property, those of nested configs too."""
    for name, part in {"run": schema, **schema["$defs"]}.items():
        for field, value in part.get("properties", {}).items():
            yield f"{name}.{field}", value.get("description", "")


def test_every_field_of_a_run_has_a_description_that_names_it() -> None:
    fields = dict(described_fields(run_file_schema()))
    assert {"run.sft", "DecoderShape.norm_eps", "ExpertsShape.speed"} <= fields.keys()
    unnamed = [field for field, text in fields.items() if not text or not names_concept(text)]
    assert unnamed == []


def test_every_group_of_fields_is_named_by_its_class() -> None:
    groups = TextRun.model_json_schema()["$defs"]
    texts = {name: group.get("description", "") for name, group in groups.items()}
    assert [name for name, text in texts.items() if not text or QUESTION.match(text)] == []
