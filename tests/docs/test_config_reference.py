"""Reference of a run's config: as the schema is, whole, and open about what is experimental."""

from __future__ import annotations

import re

import pytest
import typer.main

from flows.cli.main import app
from flows.configs import config_reference
from flows.configs.config_reference import render_reference
from flows.configs.text_run import TextRun
from tests.docs.code_blocks import ROOT

EXPERIMENTAL = {
    "pretrain.device": "device",
    "pretrain.compile": "compile",
    "pretrain.float8": "float8",
    "pretrain.parallel": "parallel",
    "engine": "engine",
    "engine.capabilities": "capabilities",
}
"""Fields of a run that are for hardware on which nothing has run yet."""
HARDWARE = re.compile(r"\bGPUs?\b|TensorRT|CUDA|NCCL|8-bit float|torch\.compile")
NOT_RUN_ON = {"prices.gpu_hour", "prices.gpus"}
"""Fields that speak of such hardware, and run nothing on it."""


def test_the_committed_reference_is_that_of_the_schema() -> None:
    committed = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    way = "modelmill schema --markdown > docs/config.md"
    assert committed == render_reference(), f"the config has changed: {way}"


def test_every_stage_has_a_section_and_every_field_a_row() -> None:
    text = render_reference()
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert set(TextRun.model_fields) | {"preset"} <= set(headings)
    scrape = text.partition("### scrape\n")[2].partition("\n### ")[0]
    row = "| `max_pages` | integer, ≥ 1, ≤ 10000000 | `20000` |"
    assert row in scrape
    assert "* `nano`: `embedded.packages` " in scrape
    assert "| `optouts.policy` | " in scrape  # a group inside is laid out


def test_a_field_that_no_part_names_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_reference, "PARTS", config_reference.PARTS[:-1])
    with pytest.raises(KeyError, match="adapt, distill, merge"):
        render_reference()


def described_fields() -> dict[str, str]:
    """Description of every field of a run, by its dotted name."""
    fields: dict[str, str] = {}
    for name, field in TextRun.model_fields.items():
        fields[name] = field.description or ""
        inner = getattr(field.annotation, "model_fields", None)
        if inner is None and name == "prices":
            inner = type(TextRun.model_validate({"prices": {}}).prices).model_fields
        for below, part in (inner or {}).items():
            fields[f"{name}.{below}"] = part.description or ""
    return fields


def test_fields_for_hardware_on_which_nothing_has_run_say_experimental() -> None:
    fields = described_fields()
    said = {name for name, text in fields.items() if "experimental" in text}
    assert said == set(EXPERIMENTAL)
    speaking = {name for name, text in fields.items() if HARDWARE.search(text)}
    assert speaking - said == NOT_RUN_ON


def test_the_page_of_hardware_names_every_experimental_field_and_option() -> None:
    page = (ROOT / "docs/hardware.md").read_text(encoding="utf-8")
    built = page.partition("experimental\n")[2].partition("\n## ")[0]
    missing = [
        name for name in EXPERIMENTAL if f"`{name.removesuffix('.capabilities')}`" not in built
    ]
    assert missing == []
    assert "`modelmill serve --engine vllm`" in built
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    engine = next(each for each in serve.params if each.name == "engine")
    assert "vllm (experimental)" in engine.help
