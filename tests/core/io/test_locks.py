"""Locks between processes: flock holds between two descriptors of one process just as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.core.io.locks import create_locked_file, hold_lock, is_locked, try_lock


def test_a_lock_that_is_held_is_seen_and_not_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "key"
    assert not is_locked(path)
    with hold_lock(path):
        assert is_locked(path)
        with try_lock(path) as taken:
            assert not taken
    with try_lock(path) as taken:
        assert taken
        assert is_locked(path)
    assert not is_locked(path)


def test_a_shared_lock_keeps_out_only_who_wants_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with hold_lock(path, shared=True), hold_lock(path, shared=True), try_lock(path) as taken:
        assert not taken


def test_looking_does_not_count_as_holding(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with hold_lock(path, shared=True):
        assert not is_locked(path)


def test_a_locked_file_is_new_and_free_once_closed(tmp_path: Path) -> None:
    path = tmp_path / "uses" / "1"
    descriptor = create_locked_file(path)
    os.write(descriptor, b"key\n")
    assert is_locked(path)
    with pytest.raises(FileExistsError):
        create_locked_file(path)
    os.close(descriptor)
    assert not is_locked(path)
    assert path.read_text() == "key\n"
