"""The situations of ``bench curate --only rows``: drawn alike each time, and read whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curate.rows.row_situations import RowFile, draw_tables, row_text, write_situations
from tests.collect.files.reading import read_bytes

SITUATIONS = {file.name: file for file in [*write_situations(), *draw_tables(25, seed=7)]}


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_row_is_read_or_has_a_line(tmp_path: Path, name: str) -> None:
    file: RowFile = SITUATIONS[name]
    reading = read_bytes(tmp_path, file.name, file.content)
    given = "\n\n".join(page.body.decode() for page in reading.pages)
    missing = [tag for tag in file.tags if row_text(tag) not in given]
    assert missing == []
    assert len(reading.failed) == file.broken


def test_tables_are_drawn_alike() -> None:
    assert draw_tables(5, seed=3) == draw_tables(5, seed=3)
    assert draw_tables(5, seed=3) != draw_tables(5, seed=4)
