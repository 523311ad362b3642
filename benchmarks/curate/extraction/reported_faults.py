"""Situations of public bug reports, a small page each: what its text must and must not hold.

``faults/`` beside the reference data writes the pages and says what is expected of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.extraction.peer_extractors import ask_peers
from benchmarks.peer_programs import bench_environment, run_program
from components.collect.web.charset import decode_page

NAME = "extraction, situations of bug reports that come out right"


def measure(setting: BenchSetting, extract: Callable[[str, str], str]) -> list[BenchFigure]:
    """The share of situations that come out right, ours and the peers'."""
    folder = setting.settings.reference_data.parent / "faults"
    if not (folder / "pages.py").is_file():
        return [BenchFigure.unavailable(NAME, "", "no faults beside the reference data")]
    setting.on_progress("extraction: situations of bug reports")
    written = setting.scratch / "faults"
    run_program([sys.executable, str(folder / "pages.py"), str(written)], bench_environment())
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_bytes())
    files = {path.stem: path for path in sorted(written.iterdir()) if path.stem in expected}
    pages = {name: decode_page(path.read_bytes()) for name, path in files.items()}
    ours = {name: extract(page, _kind(files[name])) for name, page in pages.items()}
    share, failed = _passed(expected, ours)
    note = f"not: {', '.join(failed)}" if failed else f"all {len(expected)}"
    figures = [BenchFigure.against_target(NAME, share, "", 1.0, better="higher", note=note)]
    for peer, answer in ask_peers(setting, pages).items():
        theirs, _ = _passed(expected, answer["texts"])
        figures.append(
            BenchFigure.beside_peer(NAME, share, "", peer, theirs, False, better="higher")
        )
    return figures


def _kind(path: Path) -> str:
    return "application/xhtml+xml" if path.suffix == ".xhtml" else "text/html"


def _passed(
    expected: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str]
) -> tuple[float, list[str]]:
    """(share of situations that are right, names of the others)."""
    failed = [
        name
        for name, wanted in expected.items()
        if any(words not in texts.get(name, "") for words in wanted.get("has", ()))
        or any(words in texts.get(name, "") for words in wanted.get("lacks", ()))
    ]
    return 1 - len(failed) / len(expected), failed
