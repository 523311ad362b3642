"""Licence of somebody's model: the files of its folder that state it, and its name.

A name is as the model card gives it in its YAML head (``license: apache-2.0``), else that of
``config.json``, else what the first lines of the licence's text say. It is no legal finding.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from components.text.licence_signs import licence_of

CARD_FILE, CONFIG_FILE = "README.md", "config.json"
_LICENCE_NAMES = re.compile(r"(licen[cs]e|notice|copying|use[_-]policy)([._-].{0,40})?", re.I)
_MAX_LICENCE_BYTES = 1 << 20
"""Largest file that is taken for a licence; the GPL has 35 kB."""
_MAX_HEAD_CHARACTERS = 1 << 16
"""Longest head of a model card that is read."""
_TITLE_CHARACTERS, _LONGEST_NAME = 400, 80
_HEAD = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.S)


def find_licence_files(folder: Path) -> list[Path]:
    """Files with the text of a licence or a notice that goes with it, in the order of their names.

    Most licences ask that they go along with every copy and every model made of the model.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if _LICENCE_NAMES.fullmatch(path.name)
        and path.is_file()
        and path.stat().st_size <= _MAX_LICENCE_BYTES
    )


def name_licence(folder: Path) -> tuple[str, str]:
    """Name of a folder's licence and the file that states it; both empty where none does."""
    for name, found in ((CARD_FILE, _of_card(folder)), (CONFIG_FILE, _of_config(folder))):
        if found:
            return found[:_LONGEST_NAME], name
    for path in find_licence_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")[:_TITLE_CHARACTERS]
        lines = (" ".join(line.split()) for line in text.splitlines())
        title = next((line for line in lines if line), "")
        if title and not path.name.lower().startswith("notice"):
            return (licence_of(text) or title)[:_LONGEST_NAME], path.name
    return "", ""


def _of_card(folder: Path) -> str:
    """The field ``license`` of the card's head; of ``other`` the name beside it."""
    try:
        with (folder / CARD_FILE).open(encoding="utf-8", errors="replace") as file:
            head = _HEAD.match(file.read(_MAX_HEAD_CHARACTERS))
        values = yaml.safe_load(head[1]) if head else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return ""
    if not isinstance(values, dict):
        return ""
    named = _text_of(values.get("license"))
    return _text_of(values.get("license_name")) or named if named in ("", "other") else named


def _of_config(folder: Path) -> str:
    try:
        values = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return _text_of(values.get("license")) if isinstance(values, dict) else ""


def _text_of(value: Any) -> str:
    """A field's text in one line; of a list all its texts."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(", ".join(part for part in parts if isinstance(part, str)).split())
