"""A collection takes what nothing reaches, beside runs and in spite of kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import DataError
from components.core.io.trash import list_trashes
from components.core.store.artifact import Artifact
from components.core.store.gc_plan import RetentionPolicy
from components.core.store.store import Store
from flows.operations.doctor.store_checks import check_sealed_folder
from flows.operations.retention.collect_garbage import (
    GarbageCollection,
    collect_garbage,
    plan_collection,
)
from tests.flows.conftest import AS_OF, ROOT, CommandLine, states
from tests.workspace import Hand

NOTHING = RetentionPolicy(runs=0, days=0)
Ran = tuple[CommandLine, dict[str, Any]]


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)


def chain(hand: Hand, name: str, days: float = 30) -> dict[str, Artifact]:
    """pages -> corpus -> model, and a report of the corpus."""
    pages = hand.seal(f"pages {name}", stage="pages", days=days)
    corpus = hand.seal(f"corpus {name}", {"pages": pages}, stage="corpus", days=days)
    model = hand.seal(f"model {name}", {"corpus": corpus}, stage="model", days=days)
    report = hand.seal(f"report {name}", {"corpus": corpus}, stage="report", days=days)
    return {"pages": pages, "corpus": corpus, "model": model, "report": report}


def keys(hand: Hand, *chains: dict[str, Artifact]) -> set[str]:
    return {hand.key(artifact) for one in chains for artifact in one.values()}


def names(found: GarbageCollection, place: str = "store") -> list[str]:
    return [item.name for item in found.find_plan(place).deletions]


def test_the_last_runs_stay_and_a_dry_run_changes_nothing(hand: Hand) -> None:
    old, new = chain(hand, "old"), chain(hand, "new")
    hand.record("old", old, days=30)
    hand.record("new", new, days=20)
    hand.record("broken", {}, state="failed", days=10)
    before = sorted(hand.settings.home.rglob("*"))
    planned = plan_collection(hand.settings, RetentionPolicy(runs=1, days=7))
    assert len(names(planned)) == 4
    assert {item.why for item in planned.find_plan("store").deletions} == {
        "nothing that stays came from it"
    }
    assert planned.find_plan("store").retained["the last 1 completed runs"].count == 4
    assert sorted(hand.settings.home.rglob("*")) == before
    went = collect_garbage(hand.settings, RetentionPolicy(runs=1, days=7))
    assert names(went) == names(planned)
    assert hand.keys() == keys(hand, new)
    assert collect_garbage(hand.settings, RetentionPolicy(runs=1, days=7)).is_empty


def test_what_is_young_stays_with_what_it_came_from(hand: Hand) -> None:
    old = chain(hand, "old")
    young = hand.seal("young", {"corpus": old["corpus"]}, days=1)
    collect_garbage(hand.settings, RetentionPolicy(runs=0, days=7))
    assert hand.keys() == {hand.key(young), hand.key(old["corpus"]), hand.key(old["pages"])}


def test_what_a_living_run_took_stays_whatever_the_options(hand: Hand) -> None:
    """Its record may not name it yet; its inputs are reached from it."""
    made = chain(hand, "a")
    holder = f"""
        import sys
        from pathlib import Path
        from components.core.store.leases import Leases
        Leases(Path(sys.argv[1])).take_lease({hand.key(made["model"])!r})
        print("took", flush=True)
        sys.stdin.readline()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(holder), hand.store],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    collect_garbage(hand.settings, NOTHING)
    assert hand.keys() == keys(hand, made) - {hand.key(made["report"])}
    process.kill()
    process.wait()
    collect_garbage(hand.settings, NOTHING)
    assert hand.keys() == set()
    assert list((hand.store / "uses").iterdir()) == []


def test_a_run_at_work_stays_by_its_record_and_a_dead_one_does_not(hand: Hand) -> None:
    mine, dead = chain(hand, "mine"), chain(hand, "dead")
    hand.record("mine", mine, state="running", process=os.getpid())
    hand.record("dead", dead, state="running", process=os.getpid(), days=3000)  # another process
    collect_garbage(hand.settings, NOTHING)
    assert hand.keys() == keys(hand, mine)


def test_unfinished_stages_and_locks(hand: Hand) -> None:
    made = hand.seal("kept", days=0)
    partial, locks = hand.store / "partial", hand.store / "locks"
    locks.mkdir()
    for name, days in (("old", 30), ("young", 1), ("held", 30), (hand.key(made), 0)):
        (partial / name / "scratch").mkdir(parents=True)
        (locks / name).touch()
        hand.age(partial / name / "scratch", days)
        hand.age(partial / name, days)
    (partial / "adopt-999999999-1").mkdir()
    (partial / f"adopt-{os.getpid()}-1").mkdir()
    with Store(hand.store).lock_key("held"):
        collect_garbage(hand.settings, RetentionPolicy(runs=0, days=7))
    left = {path.name for path in partial.iterdir()}
    assert left == {"young", "held", f"adopt-{os.getpid()}-1"}
    assert {path.name for path in locks.iterdir()} == {"young", "held", hand.key(made)}


def test_a_manifest_that_cannot_be_read_stops_everything(hand: Hand) -> None:
    """Nobody knows what it came from, so nobody knows what may go."""
    made = chain(hand, "a")
    manifest = hand.store / made["corpus"].name / "artifact.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    with pytest.raises(DataError, match=r"artifact\.json cannot be read"):
        collect_garbage(hand.settings, NOTHING)
    assert hand.keys() == keys(hand, made)


def test_logs_of_what_is_gone(hand: Hand) -> None:
    hand.settings.logs.mkdir()
    hand.bento("there", "B", days=0)
    for name, days in (("smoke-there", 30), ("smoke-gone", 0), ("server", 30), ("worker", 1)):
        (hand.settings.logs / f"{name}.log").write_text("x")
        hand.age(hand.settings.logs / f"{name}.log", days)
    collect_garbage(hand.settings, RetentionPolicy(runs=0, days=7))
    left = {path.stem for path in hand.settings.logs.iterdir()}
    assert left == {"smoke-there", "worker"}


COLLECT = """
import sys
from pathlib import Path
from components.core.settings import Settings
from components.core.store.gc_plan import RetentionPolicy
from flows.operations.retention.collect_garbage import collect_garbage
home = Path(sys.argv[1])
print("ready", flush=True)
while True:
    collect_garbage(Settings(home=home, reference_data=home), RetentionPolicy(runs=0, days=float(sys.argv[2])))
    print("done", flush=True)
"""


def collector(hand: Hand, days: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COLLECT, hand.settings.home, str(days)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_instant_it_leaves_whole_artifacts_and_goes_on(hand: Hand) -> None:
    dice = random.Random()
    kept = keys(hand, chain(hand, "kept", days=0))
    for round_ in range(4):
        for number in range(8):
            chain(hand, f"{round_} {number}")
        before = len(hand.keys())  # counted first: on a busy machine it would be far on by then
        process = collector(hand, 1)
        sealed = hand.store / "sealed"
        wanted = before - dice.randrange(1, 12)
        while sum(1 for _ in sealed.iterdir()) > wanted:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = hand.keys()
        assert kept <= left
        for key in left:
            assert list(check_sealed_folder(hand.settings, hand.store / "sealed" / key)) == []
    collect_garbage(hand.settings, RetentionPolicy(runs=0, days=1))
    assert hand.keys() == kept
    assert not any(trash.list_contents() for trash in list_trashes(hand.settings.home))


RACER = """
import os, random, sys
from pathlib import Path
from components.core.store.artifact import Corpus
from components.core.config.stage_config import StageConfig
from components.core.store.store import Store
from components.core.store.workdir import Workdir

class Config(StageConfig):
    number: int = 0

def first(config: Config, work: Workdir) -> Corpus:
    (work.folder / "a.txt").write_text(str(config.number))
    return work.seal(Corpus)

def second(config: Config, corpus: Corpus, work: Workdir) -> Corpus:
    (work.folder / "a.txt").write_text((work.artifact_folder(corpus) / "a.txt").read_text() + "+")
    return work.seal(Corpus)

first.__module__ = second.__module__ = "tests.racer"
root = Path(sys.argv[1])

def chain():
    store = Store(root)
    store.code.code_parts = lambda component, config=None: {}
    number = random.randrange(4)
    made = store.run_request(store.make_request(first, Config(number=number), {}))[0]
    for step in range(4):
        made = store.run_request(store.make_request(second, Config(number=step), {"corpus": made}))[0]
    assert (root / made.name / "a.txt").read_text() == str(number) + "++++"

for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        chain()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a run lost its input")
"""


def test_runs_beside_a_collection_never_lose_an_input(hand: Hand) -> None:
    """Runs as processes of their own, hits and misses mixed; all that no living one holds goes."""
    hand.store.mkdir()
    script = hand.settings.home / "racer.py"
    script.write_text(RACER)
    process = collector(hand, 0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen(
            [sys.executable, script, hand.store, "30"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    said = [racer.communicate(timeout=120)[1] for racer in racers]
    process.kill()
    assert process.stdout is not None
    collections = process.stdout.read().count("done")
    process.wait()
    assert [racer.returncode for racer in racers] == [0, 0], said[0][-2000:] + said[1][-2000:]
    assert collections > 10, "nothing raced"


def test_where_there_is_no_workspace_none_is_made(tmp_path: Path) -> None:
    assert collect_garbage(Hand(tmp_path / "nowhere").settings, NOTHING).is_empty
    assert not (tmp_path / "nowhere").exists()


def test_the_command_asks_or_wants_yes(hand: Hand) -> None:
    modelmill = CommandLine(hand.settings.home)
    hand.seal("stray", days=30)
    asked = modelmill("gc")
    assert (asked.returncode, asked.stderr.count("\n")) == (2, 1)
    assert "--yes" in asked.stderr
    planned = modelmill.answer("gc", "--dry-run")
    assert planned["deleted"] is False
    assert planned["places"][0]["goes"][0]["why"] == "nothing that stays came from it"
    assert len(hand.keys()) == 1
    assert modelmill.answer("gc", "--yes")["deleted"] is True
    assert hand.keys() == set()
    assert "nothing to delete" in modelmill("gc", "--yes").stdout
    assert modelmill("gc", "--keep-days", "-1").returncode == 2


def test_after_a_collection_the_champions_run_is_cached(nano: Ran, tmp_path: Path) -> None:
    """A run that nobody keeps is left beside it: its artifacts go, the champion's do not."""
    first = nano[1]
    modelmill = CommandLine(tmp_path / "home")
    shutil.copytree(nano[0].home, modelmill.home)
    stray = ("--set", AS_OF, "--set", "select.quality.min_words=75", "--until", "tokenizer")
    modelmill.answer("run", "nano", "--plain", *stray)
    digest = next(s["digest"] for s in first["steps"] if s["stage"] == "dataset")
    went = modelmill.answer("gc", "--yes", "--keep-runs", "0", "--keep-days", "0")
    stores = next(place for place in went["places"] if place["place"] == "store")
    assert {item["name"].split()[0] for item in stores["goes"]} >= {"select", "check"}
    assert (modelmill.home / "datasets" / f"corpus-{digest[:12]}.dvc").is_file()
    again = modelmill.answer("run", "nano", "--plain", "--set", AS_OF)
    assert set(states(again).values()) == {"Cached", "Unchanged"}
    assert modelmill.answer("doctor", "--deep")["broken"] == 0
    assert json.loads(modelmill("models", "--json").stdout)["models"][0]["aliases"] == ["champion"]


def test_graphs_with_adapters_go_with_their_servers_alone(hand: Hand) -> None:
    """Whatever its age: a server that lives has the graph open, one that ended needs it no more."""
    homes = hand.settings.home / "adapters" / "servers"
    ended, lives = homes / "999999999", homes / str(os.getpid())  # no process has the first number
    for folder in (ended, lives, homes / "notes"):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"x" * 1000)
    planned = plan_collection(hand.settings, RetentionPolicy())
    plan = planned.find_plan("adapters")
    assert [(item.name, item.why, item.size) for item in plan.deletions] == [
        ("adapters/999999999", "graph with adapters of a server that has ended", 1000)
    ]
    assert plan.retained["served by a living process"].size == 1000
    assert ended.is_dir()
    assert collect_garbage(hand.settings, RetentionPolicy()).size == 1000
    assert {folder.name for folder in homes.iterdir()} == {lives.name, "notes"}
    assert not list_trashes(hand.settings.home)
    assert collect_garbage(hand.settings, RetentionPolicy()).is_empty
