from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.core.errors import ConfigError, GateFailed
from components.core.stats.report_items import ReportItems
from components.core.store.artifact import Lineage, ModelVersion, Report
from components.publish.promotion.gates import Comparison, Gate
from components.publish.promotion.manual_promotion import roll_back_champion
from components.publish.promotion.promote import (
    PromoteConfig,
    describe_versions,
    promote,
)
from components.publish.registry import mlflow_client, model_registry
from components.publish.registry.register import RegisterConfig, register
from tests.publish.conftest import list_aliases

ABOVE_CHANCE = Gate(
    name="better than chance", figure="choice.accuracy", direction="above", bound=0.25, on="low"
)
CONFIG = PromoteConfig(
    gates=(ABOVE_CHANCE,), compare=(Comparison(figure="choice.accuracy", better="higher"),)
)


def test_passing_moves_the_aliases_and_repeating_changes_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, reports = bench.registered("moves", 0.5)
    assert promote(CONFIG, first, bench.bento(first), reports, bench.workspace).changed
    assert list_aliases(bench.settings, "moves") == {"champion": "1"}

    second, better = bench.registered("moves", 0.6)
    assert list_aliases(bench.settings, "moves") == {"champion": "1", "challenger": "2"}
    assert promote(CONFIG, second, bench.bento(second), better, bench.workspace).changed
    assert list_aliases(bench.settings, "moves") == {"champion": "2", "previous": "1"}

    def refuse(settings: object) -> None:
        raise AssertionError("connected although there was nothing to do")

    monkeypatch.setattr(mlflow_client, "connect_mlflow", refuse)
    again = promote(CONFIG, second, bench.bento(second), better, bench.workspace)
    assert (again.changed, again.artifact) == (False, second)


def test_a_gate_that_refuses_leaves_the_aliases_alone_and_its_record_behind(bench: Any) -> None:
    good, reports = bench.registered("refused", 0.5)
    promote(CONFIG, good, bench.bento(good), reports, bench.workspace)
    bad, worse = bench.registered("refused", 0.27)
    before = list_aliases(bench.settings, "refused")
    for _ in range(2):
        with pytest.raises(GateFailed, match=r"better than chance: low end of choice.accuracy"):
            promote(CONFIG, bad, bench.bento(bad), worse, bench.workspace)
    assert list_aliases(bench.settings, "refused") == before == {"champion": "1", "challenger": "2"}
    newest = next(v for v in describe_versions(bench.settings) if v["model"] == "refused")
    assert newest["version"] == "2"
    assert newest["state"].startswith("refused by better than chance")
    assert [(g["gate"], g["passes"]) for g in newest["gates"]] == [
        ("better than chance", False),
        ("no worse than the champion in choice.accuracy", False),
    ]


def test_a_challenger_wholly_below_the_champion_is_refused_and_an_overlap_is_not(
    bench: Any,
) -> None:
    champion, reports = bench.registered("duel", 0.7)
    promote(CONFIG, champion, bench.bento(champion), reports, bench.workspace)
    below, figures = bench.registered("duel", 0.5)
    with pytest.raises(GateFailed, match="no worse than the champion"):
        promote(CONFIG, below, bench.bento(below), figures, bench.workspace)
    overlapping, near = bench.registered("duel", 0.65)
    assert promote(CONFIG, overlapping, bench.bento(overlapping), near, bench.workspace).changed
    assert list_aliases(bench.settings, "duel")["champion"] == "3"


def answers(shift: float, noise: int) -> ReportItems:
    """Sixty answers on twelve pages: hard for all alike, and a little luck."""
    hard = np.random.default_rng(0).normal(0, 0.3, 60)
    luck = np.random.default_rng(noise).normal(0, 0.02, 60)
    keys = [f"q{n}" for n in range(60)]
    pages = [f"page{n // 5}" for n in range(60)]
    return ReportItems(keys, pages, np.ones(60), {"accuracy": 0.6 + shift + hard + luck})


def test_the_champion_is_met_over_the_items_stored_with_it(bench: Any) -> None:
    figures = [("champion", 0.0), ("worse", -0.05), ("equal", 0.0)]
    rivals = {
        name: given(bench, "met", name, bench.report("accuracy", 0.6, 0.5, 0.7, answers(shift, n)))
        for n, (name, shift) in enumerate(figures)
    }
    promote(CONFIG, *rivals["champion"], bench.workspace)
    # Side by side, 0.5 to 0.7 and 0.5 to 0.7 are the same; pair by pair they are not.
    with pytest.raises(GateFailed, match=r"no worse .*\[paired: .* over 60 items of 12 pages\]"):
        promote(CONFIG, *rivals["worse"], bench.workspace)
    better = Comparison(figure="choice.accuracy", better="higher", margin=0.0)
    strict = CONFIG.model_copy(update={"compare": (better,)})
    with pytest.raises(GateFailed, match="better than the champion"):
        promote(strict, *rivals["equal"], bench.workspace)
    assert list_aliases(bench.settings, "met")["champion"] == "1"
    newest = next(v for v in describe_versions(bench.settings) if v["model"] == "met")
    (kept,) = (g for g in newest["gates"] if g["gate"].startswith("better than the champion"))
    assert (kept["pairs"], kept["pages"], kept["bound"], kept["passes"]) == (60, 12, 0.0, False)
    assert kept["low"] <= kept["value"] <= kept["high"]
    assert promote(CONFIG, *rivals["equal"], bench.workspace).changed


def given(bench: Any, name: str, content: str, report: Report) -> tuple[Any, ...]:
    """A registered version as ``promote`` takes it."""
    reports = {"choice": report}
    config, bundle = RegisterConfig(name=name), bench.bundle(f"{name} {content}")
    inputs = (bundle, bench.model(), bench.dataset(), reports, bench.workspace)
    version = register(config, *inputs).artifact
    return version, bench.bento(version), reports


def test_the_bundle_s_own_records_are_gates_too(bench: Any) -> None:
    gates = (
        Gate(name="parity", figure="parity.*.kl_mean", direction="at most", bound=1e-6),
        Gate(
            name="parity",
            figure="parity.onnx.top1_agreement",
            direction="at least",
            bound=0.995,
            on="low",
        ),
    )
    version = given(bench, "records", "x", bench.report("accuracy", 0.6, 0.5, 0.7))
    # 512 equal positions out of 512 prove 99.26 %, not 99.5.
    with pytest.raises(GateFailed, match=r"gate parity: low end of parity.onnx.top1_agreement is"):
        promote(PromoteConfig(gates=gates), *version, bench.workspace)
    assert promote(PromoteConfig(gates=gates[:1]), *version, bench.workspace).changed


def test_a_gate_on_a_figure_nobody_measured_promotes_nobody(bench: Any) -> None:
    version = given(bench, "unknown", "x", bench.report("accuracy", 0.6, 0.5, 0.7))
    gate = Gate(name="safety", figure="safety.leaking", direction="at most", bound=0.1)
    with pytest.raises(ConfigError, match=r"no report 'safety'; reports: choice, parity"):
        promote(PromoteConfig(gates=(gate,)), *version, bench.workspace)
    assert list_aliases(bench.settings, "unknown") == {"challenger": "1"}


def test_a_repeated_run_never_undoes_a_rollback(bench: Any) -> None:
    versions = [bench.registered("back", value) for value in (0.5, 0.6)]
    for version, reports in versions:
        promote(CONFIG, version, bench.bento(version), reports, bench.workspace)
    assert roll_back_champion(bench.settings, "back").champion == 1
    assert list_aliases(bench.settings, "back") == {"champion": "1", "previous": "2"}

    version, reports = versions[1]
    change = promote(CONFIG, version, bench.bento(version), reports, bench.workspace)
    assert not change.changed
    assert "champion stays version 1" in change.note
    assert list_aliases(bench.settings, "back") == {"champion": "1", "previous": "2"}


def test_a_promotion_killed_before_its_last_step_is_finished_or_rolled_back_for_good(
    bench: Any,
) -> None:
    from components.publish.registry.mlflow_client import connect_mlflow

    versions = [bench.registered("half", value) for value in (0.5, 0.6)]
    for version, reports in versions:
        promote(CONFIG, version, bench.bento(version), reports, bench.workspace)
    second, figures = versions[1]
    client = connect_mlflow(bench.settings)
    client.delete_model_version_tag("half", "2", model_registry.PROMOTED_TAG)
    promote(CONFIG, second, bench.bento(second), figures, bench.workspace)
    assert list_aliases(bench.settings, "half") == {"champion": "2", "previous": "1"}

    client.delete_model_version_tag("half", "2", model_registry.PROMOTED_TAG)
    roll_back_champion(bench.settings, "half")
    promote(CONFIG, second, bench.bento(second), figures, bench.workspace)
    assert list_aliases(bench.settings, "half") == {"champion": "1", "previous": "2"}


def test_what_cannot_be_rolled_back_says_so(bench: Any) -> None:
    only, reports = bench.registered("only", 0.5)
    with pytest.raises(ConfigError, match=r"nobody: no champion to roll back; .*models: .*only"):
        roll_back_champion(bench.settings, "nobody")
    promote(CONFIG, only, bench.bento(only), reports, bench.workspace)
    with pytest.raises(ConfigError, match="version 1 has no champion before it"):
        roll_back_champion(bench.settings, "only")


@pytest.mark.parametrize("name", ["models:/nobody/1", "../../etc/passwd", "models:/x/latest"])
def test_what_is_not_registered_is_refused(bench: Any, name: str) -> None:
    stranger = ModelVersion(
        name=name, digest="0", lineage=Lineage(component="x", code="", config="")
    )
    with pytest.raises(ConfigError):
        promote(CONFIG, stranger, bench.bento(stranger), {}, bench.workspace)
