"""Extractors of other tools on the same pages: their texts and their processor time."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.bench_setting import BenchSetting

TRAFILATURA, TRAFILATURA_FAST, RESILIPARSE = "trafilatura", "trafilatura, fast", "resiliparse"
_PROGRAMS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    TRAFILATURA: ("trafilatura_extract", "trafilatura", ("default",)),
    TRAFILATURA_FAST: ("trafilatura_extract", "trafilatura", ("fast",)),
    RESILIPARSE: ("resiliparse_extract", "resiliparse", ()),
}
"""Peer -> (program of ``peers/``, package it imports, its mode)."""


def run_extractors(
    setting: BenchSetting, pages: Mapping[str, str], peers: tuple[str, ...] = tuple(_PROGRAMS)
) -> dict[str, Any]:
    """``texts`` by page and ``seconds`` of one pass, for each installed peer.

    Args:
        setting: scratch folder and interpreters.
        pages: HTML by name.
        peers: names of the extractors.
    """
    source = setting.scratch / "pages.json"
    source.write_text(json.dumps(pages), encoding="utf-8")
    answers = {}
    for peer in peers:
        program, needs, mode = _PROGRAMS[peer]
        answers[peer] = setting.run_peer(program, needs, str(source), *mode, "1")
    return {peer: answer for peer, answer in answers.items() if answer is not None}


def measure_rates(
    setting: BenchSetting, pages: Mapping[str, str], extract: Callable[[str], str]
) -> tuple[float, float | None]:
    """Pages a second of processor time, ours and trafilatura's: medians of alternating passes.

    Args:
        setting: number of passes.
        pages: HTML by name.
        extract: our extractor, from HTML to text.

    Returns:
        (ours, trafilatura's or None where it is not installed)
    """

    def time_pass() -> float:
        began = time.process_time()
        for page in pages.values():
            extract(page)
        return time.process_time() - began

    time_pass()
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(setting.repeats):
        ours.append(time_pass())
        answer = run_extractors(setting, pages, (TRAFILATURA,)).get(TRAFILATURA)
        theirs += answer["seconds"] if answer else []
    rate = len(pages) / statistics.median(ours)
    return rate, len(pages) / statistics.median(theirs) if theirs else None
