"""What ``modelmill autopilot`` counts on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Tokens
from components.core.store.store import Store
from components.text.token_arrays import open_split
from flows.cli.views.autopilot_view import count_packed_tokens
from tests.train.conftest import sealed_tokens


def test_tokens_that_a_user_gave_are_counted_and_others_passed_over(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", reference_data=tmp_path)
    store = Store(settings.store)
    (tmp_path / "empty").mkdir()
    store.adopt_files(tmp_path / "empty", Tokens)
    with pytest.raises(ConfigError, match="the workspace holds no tokens"):
        count_packed_tokens(settings)
    given = tmp_path / "elsewhere" / sealed_tokens(tmp_path / "elsewhere", 8).name
    adopted = store.adopt_files(given, Tokens)
    os.utime(store.root / adopted.name, (1, 1))  # the oldest: the empty folder is passed over
    assert count_packed_tokens(settings) == len(open_split(given, "train").tokens)
