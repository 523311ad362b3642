"""Reports of benchmarks: verdicts on figures, and the page rendered from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_report import (
    BenchFigure,
    BenchReport,
    describe_machine,
    format_rows,
    write_page,
)
from components.core.errors import ConfigError


def test_verdicts() -> None:
    assert BenchFigure.against_target("a", 1.0, "s", 1.0).holds is True
    assert BenchFigure.against_target("a", 1.1, "s", 1.0).holds is False
    won = BenchFigure.beside_peer("b", 2.0, "s", "peer", 3.0, must_win=True)
    assert (won.ratio, won.holds) == (1.5, True)
    assert BenchFigure.beside_peer("b", 4.0, "s", "peer", 3.0, must_win=True).holds is False
    assert BenchFigure.beside_peer("b", 4.0, "s", "peer", 3.0, must_win=False).holds is None
    faster = BenchFigure.beside_peer(
        "c", 3000.0, "/s", "peer", 1000.0, must_win=True, better="higher"
    )
    assert (faster.ratio, faster.holds) == (3.0, True)
    slower = BenchFigure.against_target("c", 3.0, "/s", 4.0, better="higher", note="[2, 4]")
    assert slower.holds is False
    assert format_rows([asdict(slower)])[0][1:3] == ("3 /s [2, 4]", "at least 4 /s")
    json.dumps(asdict(BenchFigure.against_target("d", np.float64(1), "s", 2.0)))
    json.dumps(
        asdict(BenchFigure.beside_peer("d", np.float64(1), "s", "x", np.float64(2), must_win=True))
    )
    absent = BenchFigure.beside_peer("b", 4.0, "s", "peer", None, must_win=True)
    assert (absent.peer_value, absent.ratio, absent.holds) == (None, None, None)
    lost = BenchReport("x", {}, [won, BenchFigure.against_target("a", 2.0, "s", 1.0)])
    assert lost.failure == "bench x: outside its bounds: a"
    assert BenchReport("x", {}, [won, absent]).failure == ""


def test_page_is_made_of_objects(tmp_path: Path) -> None:
    bench = BenchReport(
        "x", describe_machine(), [BenchFigure.against_target("quick", 0.1234, "s", 1.0)]
    )
    source = tmp_path / "x.json"
    source.write_text(json.dumps(bench.as_json()))
    page = tmp_path / "docs" / "benchmarks.md"
    assert write_page(page, [source]) == 1
    assert "| quick | 0.123 s | at most 1 s | — | — | — | yes |" in page.read_text()
    assert format_rows(bench.as_json()["figures"])[0][0] == "quick"
    before = page.read_text()
    source.write_text("{}")
    with pytest.raises(ConfigError, match=r"x\.json: is not a report"):
        write_page(page, [source])
    assert page.read_text() == before
