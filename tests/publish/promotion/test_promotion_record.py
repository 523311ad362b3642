"""Registry, Bento tag and endpoint agree after a kill between any two steps of a promotion."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import DataError, GateFailed, MillError
from components.publish import bento_folders
from components.publish.promotion import audit_log, promotion_record
from components.publish.promotion.endpoint_swap import EndpointSwap
from components.publish.promotion.gates import Gate
from components.publish.promotion.manual_promotion import promote_manually, roll_back_champion
from components.publish.promotion.promote import PromoteConfig, promote
from components.publish.promotion.promotion_record import recover_promotion
from components.publish.registry import mlflow_tables, model_registry
from tests.publish.conftest import list_aliases

MODEL = "served"
ABOVE_CHANCE = Gate(
    name="better than chance", figure="choice.accuracy", direction="above", bound=0.25, on="low"
)
CONFIG = PromoteConfig(gates=(ABOVE_CHANCE,))
STEPS = ("journal", "prepare", "aliases", "tag", "switch", "audit")
STEPS_BACK = ("back", "aliases back", "tag back", "endpoint back", "audit back")


class World:
    """Two versions of one model, and the endpoint that serves one of them."""

    def __init__(self, bench: Any) -> None:
        self.bench, self.settings = bench, bench.settings
        self.process: subprocess.Popen[bytes] | None = None
        for value in (0.5, 0.6):
            version, reports = bench.registered(MODEL, value)
            bento = bench.bento(version)
            promote(CONFIG, version, bento, reports, bench.workspace)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        script = Path(__file__).with_name("manager_stand_in.py")
        number = list_aliases(self.settings, MODEL)["champion"]
        served = [MODEL, number, f"{MODEL}-{number}-a"]
        root = str(Path(__file__).parents[3])
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.settings.home), str(self.port), *served],
            env={**os.environ, "PYTHONPATH": root},
        )
        until(EndpointSwap(self.settings).is_running)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def be_champion(self, number: int) -> None:
        """Whatever came before, this version is champion now, and nothing is under way."""
        for flaw in ("broken", "hangs", "stuck"):
            for folder in bento_folders.bentos_folder(self.settings).glob("*/"):
                (folder / flaw).unlink(missing_ok=True)
        recover_promotion(self.settings)
        promote_manually(self.settings, MODEL, number)
        assert self.agreed() == number

    def flaw(self, number: int, name: str) -> Path:
        path = bento_folders.bentos_folder(self.settings) / f"{MODEL}-{number}-a" / name
        path.touch()
        return path

    def agreed(self) -> int:
        """The version that all three places name; fails where they differ."""
        champion = list_aliases(self.settings, MODEL)["champion"]
        folder = f"{MODEL}-{champion}-a"
        assert bento_folders.read_latest(self.settings) == folder
        if self.process is not None:
            until(lambda: self.answer() == folder)
            status = EndpointSwap(self.settings).read_status()
            assert status is not None
            assert status.serving is not None
            assert status.serving.version == champion
            assert status.prepared is None
        assert not (self.settings.home / "promotion.json").exists()
        return int(champion)

    def answer(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/") as reply:
            return bytes(reply.read()).decode()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole_world(bench: Any) -> Iterator[World]:
    world = World(bench)
    world.start()
    yield world
    world.stop()


@pytest.fixture
def world(whole_world: World) -> World:
    if whole_world.process is None:
        whole_world.start()
    whole_world.be_champion(1)
    return whole_world


def killed_at(step: str, action: Callable[[], object]) -> None:
    """Run ``action`` in a child that ends itself, without any cleaning up, after ``step``."""
    child = os.fork()
    if child == 0:
        promotion_record._after_step = lambda name: os._exit(9) if name == step else None
        with contextlib.suppress(BaseException):
            action()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9, "it never came to that step"


def do(world: World, action: str) -> None:
    """Version 2 instead of 1, or 1 instead of 2."""
    if action == "promote":
        promote_manually(world.settings, MODEL, 2, why="better")
    else:
        roll_back_champion(world.settings, MODEL, why="worse")


def told_since(world: World, count: int) -> list[tuple[str, Any, Any]]:
    entries = audit_log.read_entries(world.settings)[count:]
    return [(e.event, e.facts["version"], e.facts["former"]) for e in entries]


@pytest.mark.parametrize("manager", [True, False], ids=["endpoint", "no endpoint"])
@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_it_is_completed_or_taken_back(
    whole_world: World, step: str, action: str, manager: bool
) -> None:
    world = whole_world
    if world.process is None:
        world.start()
    old, new = (1, 2) if action == "promote" else (2, 1)
    world.be_champion(old)
    before = list_aliases(world.settings, MODEL)
    count = len(audit_log.read_entries(world.settings))
    if not manager:
        world.stop()
    killed_at(step, lambda: do(world, action))
    assert recover_promotion(world.settings) is not None
    moved = step not in ("journal", "prepare")
    assert world.agreed() == (new if moved else old)
    if not moved:
        assert list_aliases(world.settings, MODEL) == before
    event = {"promote": "promoted", "rollback": "rolled back"}[action] if moved else "abandoned"
    assert told_since(world, count) == [(event, new, old)]
    assert recover_promotion(world.settings) is None


@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("step", STEPS_BACK)
def test_killed_while_it_is_taken_back_that_is_completed(
    whole_world: World, step: str, action: str
) -> None:
    world = whole_world
    if world.process is None:
        world.start()
    old, new = (1, 2) if action == "promote" else (2, 1)
    world.be_champion(old)
    before = list_aliases(world.settings, MODEL)
    count = len(audit_log.read_entries(world.settings))
    flaw = world.flaw(new, "stuck")
    killed_at(step, lambda: do(world, action))
    flaw.unlink()  # it could be completed now, and is taken back all the same
    recover_promotion(world.settings)
    assert world.agreed() == old
    assert list_aliases(world.settings, MODEL) == before
    assert told_since(world, count) == [("abandoned", new, old)]


@pytest.mark.parametrize("following", ["promote", "rollback"])
def test_the_next_command_completes_it_first(world: World, following: str) -> None:
    killed_at("aliases", lambda: do(world, "promote"))
    assert bento_folders.read_latest(world.settings) == "served-1-a"
    if following == "promote":
        assert not promote_manually(world.settings, MODEL, 2).changed
        assert world.agreed() == 2
    else:
        assert roll_back_champion(world.settings, MODEL).champion == 1
        assert world.agreed() == 1
    events = [entry.event for entry in audit_log.read_entries(world.settings)]
    assert events[-1 if following == "promote" else -2] == "promoted"


def test_killed_outright_while_it_waits_nothing_has_moved(world: World) -> None:
    flaw = world.flaw(2, "hangs")
    count = len(audit_log.read_entries(world.settings))
    child = os.fork()
    if child == 0:
        do(world, "promote")
        os._exit(1)
    wanted = world.settings.home / "endpoint" / "wanted.json"
    until(lambda: wanted.exists() and b"served-2-a" in wanted.read_bytes())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    flaw.unlink()
    recover_promotion(world.settings)
    assert world.agreed() == 1
    assert told_since(world, count) == [("abandoned", 2, 1)]


@pytest.mark.parametrize("flaw", ["broken", "hangs"])
def test_what_does_not_get_ready_moves_nothing(
    world: World, flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion_record, "READY_SECONDS", 0.3)
    before = list_aliases(world.settings, MODEL)
    mark = world.flaw(2, flaw)
    said = "it is broken" if flaw == "broken" else "within 0.3 s"
    if flaw == "hangs":  # for a while only: then it hears that it was given up
        threading.Timer(1.0, mark.unlink).start()
    with pytest.raises(MillError, match=f"did not prepare served version 2.*{said}.*nothing has"):
        do(world, "promote")
    assert world.agreed() == 1
    assert list_aliases(world.settings, MODEL) == before
    last = audit_log.read_entries(world.settings)[-1]
    assert (last.event, last.facts["attempt"]) == ("abandoned", "promoted")
    assert said in last.facts["reason"]


def test_what_cannot_be_switched_to_is_taken_back(world: World) -> None:
    before = list_aliases(world.settings, MODEL)
    world.flaw(2, "stuck")
    with pytest.raises(MillError, match=r"did not switch .*it is stuck; .*is taken back"):
        do(world, "promote")
    assert world.agreed() == 1
    assert list_aliases(world.settings, MODEL) == before


def test_a_keeper_that_ends_meanwhile_is_an_error_before_and_none_after_the_move(
    world: World,
) -> None:
    killed_at("tag", lambda: do(world, "promote"))
    world.stop()
    recover_promotion(world.settings)
    assert world.agreed() == 2
    world.start()
    assert world.agreed() == 2


def test_an_endpoint_of_another_model_is_left_alone(world: World) -> None:
    version, reports = world.bench.registered("aside", 0.5)
    bento = world.bench.bento(version)
    assert promote(CONFIG, version, bento, reports, world.bench.workspace).changed
    assert list_aliases(world.settings, "aside") == {"champion": "1"}
    assert world.agreed() == 1


def test_a_champion_packed_again_is_exchanged(world: World) -> None:
    version, reports = world.bench.registered(MODEL, 0.5)
    again = world.bench.bento(version, "b")
    before = list_aliases(world.settings, MODEL)
    assert promote(CONFIG, version, again, reports, world.bench.workspace).changed
    assert bento_folders.read_latest(world.settings) == world.answer() == "served-1-b"
    assert list_aliases(world.settings, MODEL) == before
    assert not promote(CONFIG, version, again, reports, world.bench.workspace).changed
    first = world.bench.bento(version)
    assert promote(CONFIG, version, first, reports, world.bench.workspace).changed
    shutil.rmtree(bento_folders.bentos_folder(world.settings) / "served-1-b")
    assert world.agreed() == 1


def test_a_broken_audit_log_lets_nothing_move(world: World) -> None:
    path = audit_log.log_path(world.settings)
    good = path.read_bytes()
    path.write_bytes(good[:-4] + b'?"}\n')
    with pytest.raises(DataError, match=r"audit\.jsonl: "):
        do(world, "promote")
    path.write_bytes(good)
    assert world.agreed() == 1


def test_a_journal_that_cannot_be_read_is_one_line(world: World) -> None:
    journal = world.settings.home / "promotion.json"
    journal.write_text("{")
    with pytest.raises(DataError, match=r"promotion\.json: the journal"):
        recover_promotion(world.settings)
    journal.unlink()


def test_one_at_work_is_left_to_it(world: World) -> None:
    from components.publish.registry.model_registry import registry_lock

    killed_at("aliases", lambda: do(world, "promote"))
    with registry_lock(world.settings):
        assert recover_promotion(world.settings, wait=False) is None
    assert recover_promotion(world.settings, wait=False) is not None


def test_a_version_without_its_bento_is_not_promoted_and_not_rolled_back_to(world: World) -> None:
    world.be_champion(2)
    folder = bento_folders.bentos_folder(world.settings) / "served-1-a" / "src"
    folder.rename(folder.with_name("hidden"))
    for action in (
        lambda: roll_back_champion(world.settings, MODEL),
        lambda: promote_manually(world.settings, MODEL, 1),
    ):
        with pytest.raises(MillError, match="the Bento of served version 1 is not there"):
            action()
    folder.with_name("hidden").rename(folder)
    assert world.agreed() == 2


def test_mlflow_sees_what_was_written(world: World) -> None:
    from components.publish.registry.mlflow_client import connect_mlflow

    do(world, "promote")
    client = connect_mlflow(world.settings)
    named = client.get_registered_model(MODEL).aliases
    assert {k: str(v) for k, v in named.items()} == list_aliases(world.settings, MODEL)
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == "2"
    tags = client.get_model_version(MODEL, "2").tags
    assert tags["modelmill.promoted"] == "true"
    client.set_registered_model_alias(MODEL, "challenger", "1")
    roll_back_champion(world.settings, MODEL)
    named = client.get_registered_model(MODEL).aliases
    assert {k: int(v) for k, v in named.items()} == {"champion": 1, "previous": 2, "challenger": 1}
    client.delete_registered_model_alias(MODEL, "challenger")


def test_neither_way_imports_mlflow(world: World) -> None:
    code = (
        "import sys; from pathlib import Path; from components.core.settings import Settings\n"
        "from components.publish.promotion.manual_promotion import promote_manually, roll_back_champion\n"
        "home = Path(sys.argv[1]); given = Settings(home=home, reference_data=home)\n"
        "promote_manually(given, 'served', 2); roll_back_champion(given, 'served')\n"
        "sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)\n"
    )
    root = str(Path(__file__).parents[3])
    subprocess.run(
        [sys.executable, "-c", code, str(world.settings.home)],
        env={**os.environ, "PYTHONPATH": root},
        check=True,
    )
    assert world.agreed() == 1


def test_gates_hold_back_by_hand_too_and_force_is_kept(world: World) -> None:
    version, _ = world.bench.registered(MODEL, 0.27)
    number = int(version.name.rpartition("/")[2])
    world.bench.bento(version)
    with pytest.raises(GateFailed, match=r"better than chance.*--force --why .*makes it the cham"):
        promote_manually(world.settings, MODEL, number)
    with pytest.raises(MillError, match="say --why"):
        promote_manually(world.settings, MODEL, number, force=True)
    assert world.agreed() == 1
    moved = promote_manually(world.settings, MODEL, number, why="a demonstration", force=True)
    assert (moved.champion, moved.previous, moved.changed) == (number, 1, True)
    facts = audit_log.read_entries(world.settings)[-1].facts
    assert (facts["forced"], facts["why"]) == (True, "a demonstration")
    assert "better than chance" in facts["refused"]
    assert facts["by"] == audit_log.current_user()
    assert roll_back_champion(world.settings, MODEL).champion == 1


def test_any_former_champion_can_be_put_back_and_no_other(world: World) -> None:
    version, _ = world.bench.registered(MODEL, 0.61)
    number = int(version.name.rpartition("/")[2])
    world.bench.bento(version)
    with pytest.raises(MillError, match="never was champion"):
        roll_back_champion(world.settings, MODEL, number)
    promote_manually(world.settings, MODEL, number)
    moved = roll_back_champion(world.settings, MODEL, 2, why="the best one")
    assert (moved.champion, moved.previous) == (2, number)
    assert not roll_back_champion(world.settings, MODEL, 2).changed
    with pytest.raises(MillError, match="has no version 99"):
        roll_back_champion(world.settings, MODEL, 99)


@pytest.fixture
def forgotten(world: World) -> Iterator[int]:
    """Version 2 was champion and is marked; version 1 is champion."""
    world.be_champion(2)
    world.be_champion(1)
    marked = "bad.example, https://a.example/x"
    mlflow_tables.write_aliases_and_tags(
        world.settings, MODEL, {}, {(2, model_registry.FORGOTTEN_TAG): marked}
    )
    yield 2
    mlflow_tables.write_aliases_and_tags(
        world.settings, MODEL, {}, {(2, model_registry.FORGOTTEN_TAG): None}
    )


def test_nobody_brings_back_what_is_to_be_forgotten(world: World, forgotten: int) -> None:
    says = (
        r"served version 2 was made of what is to be forgotten \(bad\.example, "
        r"https://a\.example/x\); `modelmill forget bad\.example --rebuild` makes one without it"
    )
    attempts: tuple[Callable[[], object], ...] = (
        lambda: roll_back_champion(world.settings, MODEL),
        lambda: roll_back_champion(world.settings, MODEL, forgotten),
        lambda: promote_manually(world.settings, MODEL, forgotten),
        lambda: promote_manually(world.settings, MODEL, forgotten, why="I insist", force=True),
    )
    before = audit_log.read_entries(world.settings)
    for attempt in attempts:
        with pytest.raises(GateFailed, match=says):
            attempt()
        assert world.agreed() == 1
    assert audit_log.read_entries(world.settings) == before
