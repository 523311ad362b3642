"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.io.atomic_write import atomic_path, publish_path, write_atomically


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_path(path) as temporary:
        temporary.write_text("half, then \ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_try_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "state.json.tmp").write_text("left by a kill")
    write_atomically(tmp_path / "state.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_writers_with_a_suffix_each_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with atomic_path(path, ".1.tmp") as first:
        first.write_text("first")
        with atomic_path(path, ".2.tmp") as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_folder_is_published_whole_and_replaces_no_full_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "place").mkdir()
    publish_path(tmp_path / "first", tmp_path / "place")
    with pytest.raises(OSError, match="not empty"):
        publish_path(tmp_path / "second", tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "first"
    assert (tmp_path / "second" / "file").read_text() == "second"
