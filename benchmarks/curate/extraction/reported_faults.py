"""Share of situations from public bug reports that come out right, a small page for each.

``faults/`` beside the reference data writes the pages and lists the words that each text must and
must not hold.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.extraction.peer_extractors import run_extractors
from benchmarks.peer_programs import bench_environment, run_program
from components.collect.web.charset import decode_page

NAME = "extraction, situations of bug reports that come out right"


def measure_faults(setting: BenchSetting, extract: Callable[[str, str], str]) -> list[BenchFigure]:
    """Share of situations that come out right, ours and the peers'."""
    folder = setting.settings.reference_data.parent / "faults"
    if not (folder / "pages.py").is_file():
        return [BenchFigure.unavailable(NAME, "", "no faults beside the reference data")]
    setting.on_progress("extraction: situations of bug reports")
    page_folder = setting.scratch / "faults"
    run_program([sys.executable, str(folder / "pages.py"), str(page_folder)], bench_environment())
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_bytes())
    files = {path.stem: path for path in sorted(page_folder.iterdir()) if path.stem in expected}
    pages = {name: decode_page(path.read_bytes()) for name, path in files.items()}
    ours = {name: extract(page, _media_type(files[name])) for name, page in pages.items()}
    share, failed = _check_expectations(expected, ours)
    note = f"not: {', '.join(failed)}" if failed else f"all {len(expected)}"
    figures = [BenchFigure.against_target(NAME, share, "", 1.0, better="higher", note=note)]
    for peer, answer in run_extractors(setting, pages).items():
        theirs, _ = _check_expectations(expected, answer["texts"])
        figures.append(
            BenchFigure.beside_peer(NAME, share, "", peer, theirs, False, better="higher")
        )
    return figures


def _media_type(path: Path) -> str:
    return "application/xhtml+xml" if path.suffix == ".xhtml" else "text/html"


def _check_expectations(
    expected: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str]
) -> tuple[float, list[str]]:
    """(share of situations that meet their expectation, names of the others)."""
    failed = [
        name
        for name, expectation in expected.items()
        if any(words not in texts.get(name, "") for words in expectation.get("has", ()))
        or any(words in texts.get(name, "") for words in expectation.get("lacks", ()))
    ]
    return 1 - len(failed) / len(expected), failed
