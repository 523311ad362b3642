"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.workdir import Workdir


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    """A workdir below a temporary store, to call a component as a plain function."""
    return Workdir.temporary(tmp_path / "store")
