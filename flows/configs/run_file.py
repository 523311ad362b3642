"""YAML file of a run: its JSON Schema for editors, and a commented file to begin with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import ConfigError
from flows.configs.presets import PRESETS
from flows.configs.prices import Prices
from flows.configs.text_run import TextRun

BASE_PRESET = "tiny"
"""Preset below a new file."""
SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "scrape",
        "Your pages: addresses to crawl from, or files. Without either, the documentation on this "
        "machine.",
        ("seeds", "hosts", "max_pages", "delay_seconds", "files"),
    ),
    (
        "select",
        "Selection of pages, and of personal data to take out of them.",
        ("quality", "language", "pii"),
    ),
    (
        "contamination",
        "Evaluation sets of your own, whose items stay out of training.",
        ("sets",),
    ),
    (
        "pretrain",
        "Training. Write minutes, tokens or flops in place of steps.",
        ("steps", "minutes", "autopilot"),
    ),
    ("sft", "Fine-tuning on questions and answers.", ("epochs",)),
    (
        "instructions",
        "Conversations of your own to fine-tune on, beside the questions made of the pages.",
        ("files", "heldout_share"),
    ),
    ("promote", "Final decision before a model is served.", ("approve",)),
    ("dataset", "Remote for versions of the corpus.", ("remote",)),
    (
        "prices",
        "Prices of this machine; with them, the plan shows the cost of a run.",
        ("currency", "machine_hour", "gpu_hour", "gpus", "watts", "kilowatt_hour"),
    ),
)
"""(section, title, fields) that a first run is likely to change; the schema has all fields."""
SHOWN_IN_GROUPS = {
    "quality": ("min_words",),
    "language": ("allowed", "min_share"),
    "pii": ("email", "phone"),
}
"""Fields that are shown of the groups inside a section."""
HEADER = """\
# A run over your own pages. A line that begins with `#` and a field shows what holds anyway: take
# the `#` away (of the line of its group too) to change it. `modelmill schema` has every field.
#
#   modelmill plan {name}     steps of a run, with their reasons and time; runs nothing
#   modelmill run {name}

preset: {preset}  # values of all fields not given here: {presets}
name: my-pages  # {description}
"""


def run_file_schema() -> dict[str, Any]:
    """JSON Schema of a run file: the run's fields, ``preset``, and ``x-`` keys for anchors."""
    schema = TextRun.model_json_schema()
    preset = {
        "enum": list(PRESETS),
        "description": "preset whose values hold for every field not given here",
    }
    return {
        **schema,
        "properties": {"preset": preset, **schema["properties"]},
        "patternProperties": {"^x-": {"description": "ignored, as a place for anchors"}},
        "required": ["preset"],
    }


def write_run_file(path: Path) -> None:
    """Write a commented file over a preset.

    Raises:
        ConfigError: there is a file already, it cannot be written, or is not named as YAML.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: name it .yaml, as a run's file is")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(commented_run_file(path.name))
    except FileExistsError as error:
        problem = "exists already and is left unchanged; name another: `modelmill init OTHER.yaml`"
        raise ConfigError(f"{path}: {problem}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def commented_run_file(name: str) -> str:
    """Text of a run file that changes nothing but the run's name."""
    description = TextRun.model_fields["name"].description
    head = HEADER.format(
        name=name, preset=BASE_PRESET, presets=", ".join(PRESETS), description=description
    )
    run = PRESETS[BASE_PRESET]()
    lines: list[str] = []
    for stage, title, fields in SECTIONS:
        config = getattr(run, stage) or Prices()  # the one group that no preset has
        lines += ["", f"# {title}", f"#{stage}:", *_fields(config, fields, 1)]
    return head + "\n".join(lines) + "\n"


def _fields(config: BaseModel, names: tuple[str, ...], depth: int) -> Iterator[str]:
    values = config.model_dump(mode="json")
    for name in names:
        value, indent = getattr(config, name), "  " * depth
        description = type(config).model_fields[name].description
        if isinstance(value, BaseModel):
            yield f"#{indent}{name}:  # {description}"
            yield from _fields(value, SHOWN_IN_GROUPS[name], depth + 1)
        else:
            shown = json.dumps(values[name], ensure_ascii=False)
            yield f"#{indent}{name}: {shown}  # {description}"
