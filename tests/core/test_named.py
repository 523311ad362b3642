"""A file is named by its path and known by what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.config.hashed_file import NamedFile
from components.core.config.stage_config import StageConfig, overlay
from components.core.errors import ConfigError, DataError


class Run(StageConfig):
    sets: tuple[NamedFile, ...] = ()


def test_a_path_is_enough_and_an_edit_is_another_config(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("one")
    run = overlay(Run(), {"sets": [str(path)]})
    assert run.sets[0].read("sets") == b"one"
    assert Run.model_validate_json(run.model_dump_json()) == run
    path.write_text("two")
    assert overlay(Run(), {"sets": [{"path": str(path)}]}) != run
    with pytest.raises(DataError, match=r"sets: a\.jsonl is gone or changed; run again"):
        run.sets[0].read("sets")


def test_no_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sets\.0: given '.*absent': .*absent is no file"):
        overlay(Run(), {"sets": [str(tmp_path / "absent")]})
