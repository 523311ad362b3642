"""Peer extractors on the same pages: their texts, and the processor time they take."""

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
"""Peer -> its program, the package that needs, its mode."""


def run_extractors(
    setting: BenchSetting, pages: Mapping[str, str], peers: tuple[str, ...] = tuple(_PROGRAMS)
) -> dict[str, Any]:
    """Each peer's ``texts`` by page and its ``seconds`` for one pass; absent ones left out."""
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
    """Pages a second of processor time, ours and trafilatura's: medians of passes in turn.

    Returns:
        (ours, trafilatura's or None where it is absent)
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
