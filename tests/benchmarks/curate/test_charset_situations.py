"""The pages in many charsets of ``bench curate --only web``: all read right, and beside requests."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.web.charset_situations import list_charset_pages
from benchmarks.curate.web.charsets_read import find_unread, measure_charsets
from components.core.settings import Settings


def test_pages_in_every_charset_are_read_right(tmp_path: Path) -> None:
    pages = list_charset_pages()
    assert len({page.name for page in pages}) == len({page.target for page in pages}) == len(pages)
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    figures = measure_charsets(BenchSetting(settings, tmp_path, 1, lambda _: None))
    ours = [figure for figure in figures if not figure.peer]
    assert [figure.note for figure in ours] == ["", ""]
    assert [figure.value for figure in ours] == [figure.target for figure in ours]
    assert sum(figure.value for figure in ours) == len(pages)
    requests = [figure.peer_value for figure in figures if figure.peer == "requests"]
    assert all(value is not None and 0 < value < len(pages) / 2 for value in requests)


def test_a_passage_counts_only_as_a_whole() -> None:
    page = list_charset_pages()[0]
    assert find_unread([page], [f"<p>{page.passage}</p>"]) == []
    assert find_unread([page], [page.passage[:-1]]) == [page]
    assert find_unread([page], [page.passage.encode().decode("latin-1")]) == [page]
