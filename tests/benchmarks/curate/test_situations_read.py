"""The bench of web situations on its own site, without peers that are not installed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.web.situations_read import list_situations, measure_web
from components.core.settings import Settings


def test_every_situation_is_read_or_has_a_reason(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    figures = measure_web(BenchSetting(settings, tmp_path, 1, lambda _: None))
    readable = sum(not situation.reason for situation in list_situations())
    assert figures[0].value == figures[0].target == readable
    assert figures[-1].value == len(list_situations())
    peers = {figure.peer: figure for figure in figures if figure.peer}
    assert set(peers) == {"Scrapy", "requests", "pycurl"}
    requests = peers["requests"].peer_value
    assert requests is not None
    assert readable / 2 < requests < readable
