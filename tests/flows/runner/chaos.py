"""Rounds of chaos on one store; run as a program by ``test_chaos.py``.

    python tests/flows/runner/chaos.py FOLDER ROUNDS SEED [--small-disk]

Each round starts one or two runs of a small real chain (shards, a mapped corpus, a loop with
checkpoints) and does something to them: kill -9 at a random moment, kill -9 between two file
operations, a full disk, a file of a sealed artifact that is gone. After every round everything
sealed is digested anew. Prints one JSON object; ``wrong`` must be empty.

Runs are forks of this process, which stays single-threaded and never looks at the import graph.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.core.action import Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import MillError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import Checkpoint, Corpus, Report, canonical_json
from components.core.store.shards import map_shards, read_shards, shard_name, write_shard
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.runner.runner import ResultCollector, Runner, StoreRunner
from tests.workspace import damaged_keys

SHARDS, ROWS, SAVES, STEPS = 5, 400, 6, 4
UNITS = {"write": SHARDS, "shout": SHARDS, "learn": SAVES, "measure": 1}
"""Units of work of each stage: what one kill may cost."""
FULL, BROKEN = 3, 4
OPERATIONS = {"open", "os.rename", "os.chmod", "os.remove", "os.mkdir", "os.rmdir", "os.link"}
PAUSE = 0.003


class ShardConfig(StageConfig):
    rows: int = Field(default=ROWS, description="rows a shard")
    journal: str = Field(description="where begun units are counted")


def begin(journal: str, unit: str) -> None:
    """Count a unit as begun: one line, appended by one write."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, f"{unit}\n".encode())
    finally:
        os.close(descriptor)
    time.sleep(PAUSE)


def write(config: ShardConfig, work: Workdir) -> Corpus:
    """Shards of rows, those that are there kept."""
    for index in range(SHARDS):
        path = work.folder / shard_name(index)
        if path.exists():
            continue
        begin(config.journal, f"write {index}")
        texts = [
            hashlib.sha256(f"{index} {row}".encode()).hexdigest() for row in range(config.rows)
        ]
        write_shard(path, pa.table({"id": texts, "text": texts}))
    return work.seal(Corpus, stats={"rows": float(SHARDS * config.rows)})


def shouted(table: pa.Table, journal: str) -> pa.Table:
    begin(journal, f"shout {table['id'][0].as_py()[:8]}")
    return table.set_column(1, "text", [[text.upper() for text in table["text"].to_pylist()]])


def shout(config: ShardConfig, corpus: Corpus, work: Workdir) -> Corpus:
    """A mapped corpus, in a sub-folder too."""
    map_shards(work, work.artifact_folder(corpus), shouted, journal=config.journal)
    extra = work.folder / "extra"
    extra.mkdir(exist_ok=True)
    (extra / "about.json").write_text(json.dumps({"shards": SHARDS}))
    return work.seal(Corpus)


def learn(config: ShardConfig, corpus: Corpus, work: Workdir) -> Checkpoint:
    """A loop whose state is saved every few steps."""
    saved = work.scratch / "state.json"
    state = json.loads(saved.read_bytes()) if saved.exists() else {"step": 0, "weights": "0"}
    text = read_shards(work.artifact_folder(corpus), ["text"])["text"]
    for step in range(state["step"], SAVES * STEPS):
        if step % STEPS == 0:
            begin(config.journal, f"learn {step // STEPS}")
        seen = f"{state['weights']} {text[step].as_py()}"
        state = {"step": step + 1, "weights": hashlib.sha256(seen.encode()).hexdigest()}
        if state["step"] % STEPS == 0:
            write_atomically(saved, canonical_json(state))
    (work.folder / "model.json").write_text(json.dumps(state))
    return work.seal(Checkpoint)


def measure(config: ShardConfig, model: Checkpoint, corpora: Any, work: Workdir) -> Report:
    begin(config.journal, "measure 0")
    rows = {
        name: read_shards(work.artifact_folder(corpus)).num_rows for name, corpus in corpora.items()
    }
    weights = json.loads((work.artifact_folder(model) / "model.json").read_text())["weights"]
    (work.folder / "report.json").write_text(json.dumps({"rows": rows, "weights": weights}))
    return work.seal(Report)


def chain(runner: Runner, journal: str) -> None:
    config = ShardConfig(journal=journal)
    raw = runner.source("write", write, config, lambda given, earlier: given)
    loud = runner.step("shout", shout, config, corpus=raw)
    model = runner.step("learn", learn, config, corpus=loud)
    runner.step("measure", measure, config, model=model, corpora={"raw": raw, "loud": loud})


def run_chain(home: Path) -> dict[str, str]:
    """Stage -> digest; the whole chain on the store of ``home``."""
    settings = Settings(home=home, reference_data=home)
    store, silent = Store(settings.store), ResultCollector()
    chain(StoreRunner(store, Workspace(settings), listener=silent), str(home.parent / "journal"))
    store.code.save_memory()
    return {result.name: result.artifact.digest for result in silent.results}


def fork(home: Path, expected: dict[str, str], die_at: int | None = None) -> int:
    """Start a run; it dies at its ``die_at``-th file operation. Its end tells what became of it."""
    process = os.fork()
    if process:
        return process
    code = BROKEN
    try:
        if die_at is not None:
            sys.addaudithook(_dying(home, die_at))
        code = 0 if run_chain(home) == expected else BROKEN
        if code:
            sys.stderr.write("a run ended with other digests than the unbroken one\n")
    except MillError as error:
        code = FULL if "no space left" in str(error) else BROKEN
        if code == BROKEN:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _dying(home: Path, die_at: int) -> Callable[[str, tuple[Any, ...]], None]:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and str(arguments[0]).startswith(str(home)):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def count_operations(home: Path) -> int:
    """File operations of an unbroken run."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        count += event in OPERATIONS and str(arguments[0]).startswith(str(home))

    sys.addaudithook(hook)
    run_chain(home)
    return count


@dataclass
class Arena:
    """One folder, the store in it, and what must be true of both."""

    folder: Path
    dice: random.Random
    small_disk: bool
    expected: dict[str, str] = field(default_factory=dict)
    operations: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    """Runs that were cut short since the store was empty."""
    owed: Counter[str] = field(default_factory=Counter)
    """Units that had to be begun since the store was empty."""
    vanished: set[str] = field(default_factory=set)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def store(self) -> Store:
        return Store(self.home / "store")

    def learn_the_truth(self) -> None:
        """Digests, file operations and seconds of an unbroken run, in a process of its own."""
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            began = time.monotonic()
            count = count_operations(self.home)
            seconds = time.monotonic() - began
            told = json.dumps([run_chain(self.home), count, seconds])
            os.write(writing, told.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            self.expected, self.operations, self.seconds = json.loads(pipe.read())
        os.waitpid(process, 0)
        self.wipe()

    def wipe(self) -> None:
        """Begin anew, with an empty store."""
        for path in self.home.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self.journal.unlink(missing_ok=True)
        self.cuts, self.owed, self.vanished = 0, Counter(UNITS), set()

    def round(self) -> None:
        if len(self.sealed()) == len(UNITS):
            if self.dice.random() < 0.6:
                self.vanish()
            else:
                self.wipe()
        ways = [self.by_clock, self.by_operation, self.race]
        way = self.dice.choice([*ways, self.full_disk] if self.small_disk else ways)
        way()
        self.done[way.__name__] += 1
        self.check(way.__name__)

    def by_clock(self) -> None:
        """kill -9 at a random moment."""
        process = fork(self.home, self.expected)
        time.sleep(self.dice.uniform(0, 1.3 * self.seconds))
        self.kill(process)
        self.end(process)

    def by_operation(self) -> None:
        """kill -9 between two file operations."""
        self.end(fork(self.home, self.expected, self.dice.randint(1, self.operations)))

    def race(self) -> None:
        """Two runs for the same keys; one or none is killed."""
        die_at = self.dice.choice([None, self.dice.randint(1, self.operations)])
        one = fork(self.home, self.expected, die_at)
        time.sleep(self.dice.choice([0, 0.02, 0.1]))
        other = fork(self.home, self.expected)
        for process in (one, other):
            self.end(process)

    def full_disk(self) -> None:
        """The disk holds a random number of bytes more; then it is made free again."""
        ballast = self.folder / "ballast"
        free = shutil.disk_usage(self.folder).free
        left = self.dice.randint(0, 500_000)
        try:
            with ballast.open("wb", buffering=0) as file:
                file.write(b"\0" * max(0, free - left))
            self.end(fork(self.home, self.expected), full=True)
        finally:
            ballast.unlink()

    def vanish(self) -> None:
        """A file of something sealed is gone."""
        manifest = self.dice.choice(self.sealed())
        stage = manifest["component"].rpartition(".")[2]
        folder = self.home / "store" / manifest["artifact"]["name"]
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        (folder / self.dice.choice(sorted(manifest["files"]))).unlink()
        self.vanished.add(folder.name)
        self.owed[stage] += UNITS[stage]
        self.done["vanish"] += 1

    def kill(self, process: int) -> None:
        os.kill(process, signal.SIGKILL)

    def end(self, process: int, full: bool = False) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        self.cuts += code != 0
        self.done["cut" if code else "whole"] += 1
        if code not in {0, -signal.SIGKILL} and not (full and code == FULL):
            self.wrong.append(f"a run ended with {code}")

    def sealed(self) -> list[dict[str, Any]]:
        return self.store.sealed_manifests()

    def check(self, way: str) -> None:
        """Nothing sealed is wrong, and nothing was begun more often than the cuts explain."""
        store, problems = self.store, []
        problems += [f"{key} does not give its digest" for key in damaged_keys(store)]
        for manifest in store.sealed_manifests():
            stage = manifest["component"].rpartition(".")[2]
            if manifest["artifact"]["digest"] != self.expected[stage]:
                problems.append(f"{stage} has another digest than in the unbroken run")
            strange = [
                name for name in manifest["files"] if name.endswith((".tmp", "artifact.json"))
            ]
            if strange:
                problems.append(f"{stage} holds {strange}")
            self.vanished.discard(Path(manifest["artifact"]["name"]).name)
        for folder in (self.home / "store" / "sealed").glob("*"):
            if store.read_manifest(folder.name) is None and folder.name not in self.vanished:
                problems.append(f"{folder.name} is sealed but not whole")
        begun = Counter(line.split()[0] for line in self.lines())
        extra = {stage: begun[stage] - self.owed[stage] for stage in begun}
        lost = sum(max(0, count) for count in extra.values())
        if lost > self.cuts:
            problems.append(f"{lost} units were done again after {self.cuts} cuts: {extra}")
        self.wrong += [f"{way}: {problem}" for problem in problems]

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def finish(self) -> None:
        """The same command once more: it ends, and leaves nothing half-made."""
        self.end(fork(self.home, self.expected))
        self.check("the last run")
        if len(self.sealed()) != len(UNITS):
            self.wrong.append("the last run did not seal every stage")
        left = [path.name for path in (self.home / "store" / "partial").glob("*")]
        if left:
            self.wrong.append(f"partial still holds {left}")


def main() -> None:
    folder, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    arena = Arena(folder, random.Random(seed), "--small-disk" in sys.argv)
    arena.home.mkdir()
    arena.learn_the_truth()
    for number in range(rounds):
        arena.round()
        if arena.wrong:
            arena.wrong = [f"seed {seed}, round {number}: {wrong}" for wrong in arena.wrong]
            break
    else:
        arena.finish()
    told = {"wrong": arena.wrong, "done": arena.done, "operations": arena.operations}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
