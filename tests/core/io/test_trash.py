"""Renamed away at once, deleted later; linked files count once."""

from __future__ import annotations

import os
from pathlib import Path

from components.core.io.trash import Trash, delete_path, disk_size, last_change_time
from tests.workspace import Hand


def test_a_sealed_folder_is_moved_then_deleted(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    made = hand.seal("content")
    trash = Trash(hand.store)
    trash.discard(hand.store / made.name)
    assert hand.keys() == set()
    assert len(trash.list_contents()) == 1
    assert (trash.list_contents()[0] / "content.txt").read_text() == "content"
    trash.empty()
    assert not trash.folder.exists()


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    trash = Trash(tmp_path)
    trash.discard(tmp_path / "nobody")
    trash.empty()
    assert not trash.folder.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    trash = Trash(tmp_path)
    trash.discard(tmp_path / "folder")
    trash.discard(tmp_path / "link")
    trash.empty()
    delete_path(tmp_path / "nobody")
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0" * 1000)
    os.link(tmp_path / "a", tmp_path / "b")
    seen: set[tuple[int, int]] = set()
    assert disk_size([tmp_path / "a", tmp_path / "b"], seen) == 1000
    assert disk_size([tmp_path], seen) == 0
    assert disk_size([tmp_path / "nobody"]) == 0


def test_newest_change_of_a_folder_is_that_of_its_newest_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("x")
    os.utime(tmp_path / "deep" / "file", (5e9, 5e9))
    assert last_change_time(tmp_path) == 5e9
    assert last_change_time(tmp_path / "nobody") == 0.0
