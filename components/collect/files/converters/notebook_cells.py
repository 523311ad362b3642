"""Notebooks of older formats as format 4, which converters read (Jupyter's ``nbformat``)."""

from __future__ import annotations

import json
from typing import Any

NOTEBOOK_TYPE = "application/x-ipynb+json"
_PRESENT_FORMAT = 4
_MAX_LEVEL = 6


def upgrade_notebook(content: bytes) -> bytes:
    """Upgrade a notebook of format 2 or 3; any other content is given back as it is.

    Those keep their cells in worksheets, code in ``input``, and headings in cells of their own.
    """
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
        if not isinstance(notebook, dict) or "worksheets" not in notebook:
            return content
        worksheets = notebook["worksheets"] or []
        cells = [cell for sheet in worksheets for cell in sheet.get("cells") or []]
        upgraded = [_upgrade_cell(cell) for cell in cells]
    except (ValueError, RecursionError, AttributeError, TypeError):
        return content
    metadata = notebook.get("metadata") or {}
    language = next((cell.get("language") for cell in cells if cell.get("language")), "python")
    metadata = {"language_info": {"name": language}, **metadata}
    present = {"nbformat": _PRESENT_FORMAT, "nbformat_minor": 0, "metadata": metadata}
    return json.dumps({**present, "cells": upgraded}).encode("utf-8", errors="replace")


def _upgrade_cell(cell: dict[str, Any]) -> dict[str, Any]:
    kind = cell.get("cell_type", "")
    source = cell.get("input" if kind == "code" else "source") or ""
    text = "".join(source) if isinstance(source, list) else str(source)
    if kind == "code":
        return {
            "cell_type": "code", "metadata": {}, "source": text, "outputs": [],
            "execution_count": None,
        }  # fmt: skip
    if kind == "heading":
        level = min(_MAX_LEVEL, max(1, int(cell.get("level") or 1)))
        text = f"{'#' * level} {text}"
    return {"cell_type": "raw" if kind == "raw" else "markdown", "metadata": {}, "source": text}
