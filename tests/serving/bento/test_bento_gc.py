"""The newest Bento of each version that stays, what is served, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from components.core.store.gc_plan import GcPlan, RetentionPolicy
from serving.bento.bento_gc import plan_bento_gc
from serving.bento.build_bento import bentos_folder
from tests.workspace import Hand

NOTHING = RetentionPolicy(runs=0, days=0)


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    """Four Bentos: two of one version (the code changed), one of another, one without a version."""
    made = Hand(tmp_path)
    made.bento("old", "B1", days=9)
    made.bento("new", "B1", days=8)
    made.bento("other", "B2", version="2", days=7)
    made.bento("lost", "B3", version="3", days=6)
    for name in ("new", "lost"):
        report = made.settings.bentos / "smoke" / name
        report.mkdir(parents=True)
        (report / "report.json").write_text("{}")
    return made


def swept(
    hand: Hand,
    *kept: str,
    named: dict[str, str] | None = None,
    served: frozenset[str] = frozenset(),
    keeping: RetentionPolicy = NOTHING,
) -> GcPlan:
    versions = {("nano", bundle): "champion" for bundle in kept}
    now = time.time() + 1
    return plan_bento_gc(hand.settings, versions, named or {}, served, keeping, now)


def goes(sweep: GcPlan) -> set[str]:
    return {item.name for item in sweep.deletions}


def test_the_newest_of_each_version_stays(hand: Hand) -> None:
    sweep = swept(hand, "B1", "B2")
    assert goes(sweep) == {"modelmill:old", "modelmill:lost", "smoke/lost"}
    assert {item.why for item in sweep.deletions if "old" in item.name} == {
        "of nano/1, which has a newer one"
    }


def test_what_is_served_named_tagged_or_young_stays(hand: Hand) -> None:
    (bentos_folder(hand.settings) / "latest").write_text("lost\n")
    assert goes(swept(hand, served=frozenset({"old"}), named={"other": "a run"})) == {
        "modelmill:new",
        "smoke/new",
    }
    young = RetentionPolicy(runs=0, days=7.5)
    assert goes(swept(hand, keeping=young)) == {"modelmill:old", "modelmill:new", "smoke/new"}


def test_a_damaged_bento_and_leavings_of_a_killed_build_go(hand: Hand) -> None:
    (bentos_folder(hand.settings) / "new" / "src" / "endpoint.json").write_text("{")
    for leaving in ("partial/home", "tmp/build", "prometheus_multiproc_dir"):
        (hand.settings.bentos / leaving).mkdir(parents=True)
    metrics = hand.settings.bentos / "prometheus_multiproc_dir"
    (metrics / "counter_999999999.db").write_text("x")  # no process has this number
    (metrics / "counter_1.db").write_text("x")
    (hand.settings.bentos / "servers" / "999999999").mkdir(parents=True)
    (hand.settings.bentos / "servers" / "1").mkdir()
    sweep = swept(hand, "B1", "B2", "B3")
    assert goes(sweep) == {
        "modelmill:new", "smoke/new", "bentos/partial", "bentos/build", "2 metrics files"
    }  # fmt: skip


def test_a_workspace_without_bentos(tmp_path: Path) -> None:
    assert goes(swept(Hand(tmp_path))) == set()
