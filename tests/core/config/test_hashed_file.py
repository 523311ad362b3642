"""A file is named by its path and known by what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig, overlay_config
from components.core.errors import ConfigError, DataError


class Run(StageConfig):
    sets: tuple[HashedFile, ...] = ()


def test_a_path_is_enough_and_an_edit_is_another_config(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("one")
    run = overlay_config(Run(), {"sets": [str(path)]})
    assert run.sets[0].read_content("sets") == b"one"
    assert Run.model_validate_json(run.model_dump_json()) == run
    path.write_text("two")
    assert overlay_config(Run(), {"sets": [{"path": str(path)}]}) != run
    with pytest.raises(DataError, match=r"sets: a\.jsonl is gone or changed; run again"):
        run.sets[0].read_content("sets")


def test_no_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sets\.0: given '.*absent': .*absent is no file"):
        overlay_config(Run(), {"sets": [str(tmp_path / "absent")]})
