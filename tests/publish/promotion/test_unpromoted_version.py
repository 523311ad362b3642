"""No line leads in a circle: each names what refused a version and commands that go on from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError, DataError, GateFailed
from components.core.settings import Settings
from components.publish.promotion.approvals import PendingApproval, clear_pending, request_approval
from components.publish.promotion.gates import Comparison, Gate
from components.publish.promotion.manual_promotion import promote_manually, roll_back_champion
from components.publish.promotion.promote import GATES_FILE, PromoteConfig, promote
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.mlflow_tables import write_aliases_and_tags
from components.publish.registry.model_registry import (
    FORGOTTEN_TAG,
    RegisteredVersion,
    list_versions,
)
from serving.serve_model import choose_version, require_champion

IMPOSSIBLE = Gate(name="high bar", figure="choice.accuracy", direction="above", bound=0.9, on="low")
CONFIG = PromoteConfig(
    gates=(IMPOSSIBLE,), compare=(Comparison(figure="choice.accuracy", better="higher"),)
)
FORCE = '`modelmill promote {0} --force --why "…"` makes it the champion'


def refuse(bench: Any, name: str, value: float = 0.5, config: PromoteConfig = CONFIG) -> str:
    version, reports = bench.registered(name, value)
    bento = bench.bento(version)
    with pytest.raises(GateFailed) as refused:
        promote(config, version, bento, reports, bench.workspace)
    return str(refused.value)


def newest(bench: Any, name: str) -> RegisteredVersion:
    return list_versions(bench.settings, name)[0]


def test_a_refused_gate_ends_with_commands_and_the_field_of_its_bound(bench: Any) -> None:
    assert refuse(bench, "nodeadend") == (
        "gate high bar: low end of choice.accuracy is 0.45, must be above 0.9: nodeadend/1 is not "
        "promoted, there is no champion yet; `modelmill serve nodeadend@challenger` serves it as "
        f"it is, {FORCE.format('nodeadend/1')}, the bound is in promote.gates "
        "(high bar: choice.accuracy)"
    )


def test_serve_names_the_gate_with_its_figure_instead_of_a_run_that_is_refused_again(
    bench: Any,
) -> None:
    refuse(bench, "circle")
    gate = "gate high bar: low end of choice.accuracy is 0.45, must be above 0.9"
    for model in ("circle", "circle@champion"):
        with pytest.raises(ConfigError) as error:
            choose_version(bench.settings, model)
        said = str(error.value)
        assert said.startswith(f"{model}: no champion to serve yet: circle/1, the newest version,")
        assert gate in said
        assert "`modelmill serve circle@challenger`" in said
        assert FORCE.format("circle/1") in said
        assert "promote.gates (high bar: choice.accuracy)" in said
        assert "modelmill run" not in said
    with pytest.raises(ConfigError, match=r"circle: no champion to roll back; circle/1, .*gate hi"):
        roll_back_champion(bench.settings, "circle")
    # The ways on are real: the challenger is found, and forcing makes it the champion.
    assert choose_version(bench.settings, "circle@challenger") == newest(bench, "circle")
    with pytest.raises(GateFailed, match=r"not promoted; there is no champion yet; `modelmill ser"):
        promote_manually(bench.settings, "circle", 1)
    assert promote_manually(bench.settings, "circle", 1, why="…", force=True).champion == 1
    assert choose_version(bench.settings, "circle").version == 1


def test_a_refusal_beside_a_champion_says_that_it_stays(bench: Any) -> None:
    floor = CONFIG.model_copy(update={"gates": ()})
    first, reports = bench.registered("stays", 0.7)
    promote(floor, first, bench.bento(first), reports, bench.workspace)
    said = refuse(bench, "stays", 0.5, floor)
    assert "stays/2 is not promoted, stays/1 stays the champion and is served; " in said
    assert said.endswith("the bound is in promote.compare (choice.accuracy)")
    assert require_champion(bench.settings) is not None


def test_each_standing_of_the_newest_version_has_its_own_way_on(bench: Any) -> None:
    settings = bench.settings
    version, reports = bench.registered("standing", 0.5)
    assert "standing/1, the newest version, is not packed" in describe_newest(settings, "standing")
    bento = bench.bento(version)
    said = describe_newest(settings, "standing")
    assert "was not judged" in said
    assert FORCE.format("standing/1") in said
    entry = newest(bench, "standing")
    request_approval(
        settings,
        PendingApproval(model="standing", version=1, bundle="b", bento=bento.name, champion=None,
                figures={}, verdicts=[], hours=1.0, since="2026-01-01T00:00:00+00:00"),
    )  # fmt: skip
    said = describe_newest(settings, "standing")
    assert '`modelmill approve standing/1 --yes --why "…"` lets it through' in said
    clear_pending(settings, "standing", 1)
    with pytest.raises(GateFailed):
        promote(CONFIG, version, bento, reports, bench.workspace)
    assert "was refused by gate high bar" in describe_newest(settings, "standing")
    record = entry.files_folder(settings) / GATES_FILE
    whole = record.read_bytes()
    record.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=rf"{GATES_FILE}: this record of gates cannot be read"):
        describe_newest(settings, "standing")
    record.write_bytes(re.sub(rb'"passes": ?false', b'"passes":true', whole))
    said = describe_newest(settings, "standing")
    assert "has passed its gates" in said
    assert "`modelmill promote standing/1` makes it" in said
    write_aliases_and_tags(settings, "standing", {}, {(1, FORGOTTEN_TAG): "https://a.example/x"})
    said = describe_newest(settings, "standing")
    assert "`modelmill forget https://a.example/x --rebuild` makes one without it" in said
    assert "promote" not in said


def test_without_any_version_the_command_that_makes_one(bench: Any, tmp_path: Path) -> None:
    empty = Settings(home=tmp_path, reference_data=tmp_path)
    with pytest.raises(ConfigError, match=r"no champion to serve yet: .*`modelmill run tiny` mak"):
        require_champion(empty)
    with pytest.raises(ConfigError, match=r"x@challenger: no such model; none .*`modelmill run ti"):
        choose_version(empty, "x@challenger")
    refuse(bench, "there")
    assert "models: " in describe_newest(bench.settings, "elsewhere")
