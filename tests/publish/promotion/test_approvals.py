"""A person has the last word, said once, kept with who and why."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from components.core.errors import ConfigError, DataError, GateFailed
from components.core.store.artifact import ModelVersion, Report
from components.publish.promotion import approvals, audit_log
from components.publish.promotion.approvals import (
    NeedsApproval,
    find_pending,
    list_pending,
    record_decision,
)
from components.publish.promotion.gates import Gate
from components.publish.promotion.manual_promotion import promote_manually
from components.publish.promotion.promote import PromoteConfig, promote
from components.publish.registry.mlflow_tables import write_aliases_and_tags
from components.publish.registry.model_registry import FORGOTTEN_TAG
from tests.publish.conftest import list_aliases

GATE = Gate(name="floor", figure="choice.accuracy", direction="above", bound=0.25, on="low")
CONFIG = PromoteConfig(gates=(GATE,), approve="human", approve_hours=1.0)
Version = tuple[ModelVersion, dict[str, Report]]


def try_to(bench: Any, version: Version) -> Any:
    return promote(CONFIG, version[0], bench.bento(version[0]), version[1], bench.workspace)


def asked(bench: Any, version: Version) -> approvals.PendingApproval:
    with pytest.raises(NeedsApproval) as needed:
        try_to(bench, version)
    return needed.value.pending


def test_yes_lets_it_through(bench: Any) -> None:
    version = bench.registered("human-yes", 0.5)
    pending = asked(bench, version)
    assert list_aliases(bench.settings, "human-yes") == {"challenger": "1"}
    assert find_pending(bench.settings, "human-yes", 1) == pending
    assert asked(bench, version) == pending, "asked twice, it has waited since the first time"
    assert pending.figures["choice.accuracy"]["value"] == 0.5
    assert [verdict["passes"] for verdict in pending.verdicts] == [True]
    assert (pending.champion, pending.bento) == (None, "human-yes-1-a")
    assert pending.named in {p.named for p in list_pending(bench.settings)}

    record_decision(bench.settings, pending, True, "Ada", "reads well")
    assert pending.named not in {p.named for p in list_pending(bench.settings)}
    change = try_to(bench, version)
    assert change.changed
    assert "approved by Ada" in change.note
    assert list_aliases(bench.settings, "human-yes") == {"champion": "1"}
    said, moved = audit_log.read_entries(bench.settings)[-2:]
    assert (said.event, said.facts["by"], said.facts["why"]) == ("approved", "Ada", "reads well")
    assert said.facts["bundle"] == pending.bundle
    assert (moved.event, moved.facts["said"]) == ("promoted", "approved by Ada")
    assert not try_to(bench, version).changed


def test_no_is_a_refusal_that_names_who_and_why(bench: Any) -> None:
    version = bench.registered("human-no", 0.5)
    record_decision(bench.settings, asked(bench, version), False, "", "too curt")
    for _ in range(2):
        with pytest.raises(
            GateFailed, match=rf"{audit_log.current_user()} said no to human-no/1 .*too curt"
        ):
            try_to(bench, version)
    assert list_aliases(bench.settings, "human-no") == {"challenger": "1"}
    with pytest.raises(GateFailed, match=r"said no: too curt; .*--force --why "):
        promote_manually(bench.settings, "human-no", 1)
    assert promote_manually(bench.settings, "human-no", 1, force=True, why="I insist").changed


def test_a_word_is_said_once_and_with_a_reason(bench: Any) -> None:
    version = bench.registered("human-once", 0.5)
    pending = asked(bench, version)
    with pytest.raises(ConfigError, match="--why"):
        record_decision(bench.settings, pending, True, "Ada", "  ")
    record_decision(bench.settings, pending, False, "Ada", "no")
    with pytest.raises(ConfigError, match=r"rejected by Ada already: no"):
        record_decision(bench.settings, pending, True, "Bob", "yes")
    with pytest.raises(ConfigError, match=r"human-once/1 does not wait for approval"):
        find_pending(bench.settings, "human-once", 1)


def test_another_model_with_the_same_bundle_is_asked_for_itself(bench: Any) -> None:
    version = bench.registered("human-one", 0.5)
    pending = asked(bench, version)
    record_decision(bench.settings, pending, True, "Ada", "fine")
    assert approvals.find_decision(bench.settings, pending.bundle, "human-two") is None


def test_what_the_gates_refuse_asks_nobody(bench: Any) -> None:
    version = bench.registered("human-gates", 0.27)
    with pytest.raises(GateFailed, match="gate floor"):
        try_to(bench, version)
    assert "human-gates/1" not in {p.named for p in list_pending(bench.settings)}


def test_a_flow_run_that_was_named_stays_named(bench: Any) -> None:
    version = bench.registered("human-flow", 0.5)
    pending = asked(bench, version)
    approvals.request_approval(bench.settings, pending.model_copy(update={"flow_run_id": "abc"}))
    assert asked(bench, version).flow_run_id == "abc"


def test_it_can_be_handed_between_processes(bench: Any) -> None:
    error = NeedsApproval(asked(bench, bench.registered("human-pickle", 0.5)))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.pending, str(copy)) == (error.pending, str(error))


def test_a_damaged_record_is_one_line(bench: Any) -> None:
    asked(bench, bench.registered("human-damage", 0.5))
    path = bench.settings.home / "approvals" / "human-damage-1.json"
    path.write_text("{}")
    with pytest.raises(DataError, match=r"human-damage-1\.json: no record of what waits"):
        list_pending(bench.settings)
    path.unlink()
    with pytest.raises(ConfigError, match="no name of a registered model"):
        find_pending(bench.settings, "../../etc/passwd", 1)


def test_what_is_to_be_forgotten_is_neither_approved_nor_promoted(bench: Any) -> None:
    version = bench.registered("human-forgotten", 0.5)
    pending = asked(bench, version)
    write_aliases_and_tags(
        bench.settings, "human-forgotten", {}, {(1, FORGOTTEN_TAG): "bad.example"}
    )
    with pytest.raises(GateFailed, match=r"\(bad\.example\); `modelmill forget bad\.example"):
        record_decision(bench.settings, pending, True, "Ada", "reads well")
    with pytest.raises(GateFailed, match="to be forgotten"):
        try_to(bench, version)
    record_decision(bench.settings, pending, False, "Ada", "it is to be forgotten")
    assert list_aliases(bench.settings, "human-forgotten") == {"challenger": "1"}
