"""Which champion is served where several models have one."""

from __future__ import annotations

from typing import Any

import pytest

from components.publish.bento_folders import choose_champion, read_latest, tag_latest
from components.publish.registry.mlflow_tables import write_aliases_and_tags
from components.publish.registry.model_registry import CHAMPION
from serving.serve_model import list_other_champions
from tests.publish.conftest import Bench


@pytest.fixture
def two(bench: Bench) -> Any:
    """Champions of ``elder`` and, registered after it, ``younger``; the Bento of each."""
    before = read_latest(bench.settings)
    folders = []
    for name in ("elder", "younger"):
        version, _ = bench.registered(name, 0.5)
        write_aliases_and_tags(bench.settings, name, {CHAMPION: 1}, {})
        folders.append(bench.bento(version).digest)
    yield folders
    for name in ("elder", "younger"):
        write_aliases_and_tags(bench.settings, name, {CHAMPION: None}, {})
    tag_latest(bench.settings, before)


def test_the_model_whose_champion_moved_last_is_served(bench: Bench, two: list[str]) -> None:
    for folder, name in zip(two, ("elder", "younger"), strict=True):
        tag_latest(bench.settings, folder)
        chosen = choose_champion(bench.settings)
        assert chosen is not None
        assert chosen.model == name
    named = choose_champion(bench.settings, "elder")
    assert named is not None
    assert named.model == "elder"
    assert choose_champion(bench.settings, "nobody") is None
    assert "elder" in list_other_champions(bench.settings, "younger")


@pytest.mark.parametrize("gone", ["no-such-folder", None])
def test_where_that_is_gone_the_newest_champion_is(
    bench: Bench, two: list[str], gone: str | None
) -> None:
    tag_latest(bench.settings, gone)
    chosen = choose_champion(bench.settings)
    assert chosen is not None
    assert chosen.model == "younger"


def test_a_model_that_lost_its_champion_is_not_served(bench: Bench, two: list[str]) -> None:
    tag_latest(bench.settings, two[0])
    write_aliases_and_tags(bench.settings, "elder", {CHAMPION: None}, {})
    chosen = choose_champion(bench.settings)
    assert chosen is not None
    assert chosen.model == "younger"
