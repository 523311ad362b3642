"""The store: equal keys give the sealed folder, anything else is made; complete or absent."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, MillError
from components.core.io.full_disk import explain_full_disk
from components.core.store.artifact import Corpus, Report, digest_folder
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from tests.workspace import damaged_keys

CALLS: list[str] = []


class NoteConfig(StageConfig):
    text: str = Field(default="a", description="what to write")


def write_note(config: NoteConfig, work: Workdir) -> Corpus:
    CALLS.append(config.text)
    (work.folder / "note.txt").write_text(config.text[0])
    return work.seal(Corpus, stats={"rows": 1.0})


def read_note(config: NoteConfig, corpus: Corpus, work: Workdir) -> Report:
    CALLS.append("read")
    (work.folder / "report.txt").write_text((work.artifact_folder(corpus) / "note.txt").read_text())
    return work.seal(Report)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    CALLS.clear()
    return Store(tmp_path / "store")


def make(store: Store, text: str = "a") -> tuple[Corpus, bool]:
    made, cached = store.run_request(store.make_request(write_note, NoteConfig(text=text), {}))
    assert isinstance(made, Corpus)
    return made, cached


def test_second_call_is_a_hit_and_runs_nothing(store: Store) -> None:
    first, cached_first = make(store)
    second, cached_second = make(store)
    assert (cached_first, cached_second) == (False, True)
    assert second == first
    assert CALLS == ["a"]
    assert first.digest == digest_folder(store.root / first.name)


def test_equal_output_ends_the_work(store: Store) -> None:
    """Another config with the same result leaves what follows cached."""
    one, _ = make(store, "ab")
    other, _ = make(store, "ac")
    assert one.digest == other.digest
    assert one.name != other.name
    _, cached = store.run_request(store.make_request(read_note, NoteConfig(), {"corpus": one}))
    assert not cached
    _, cached = store.run_request(store.make_request(read_note, NoteConfig(), {"corpus": other}))
    assert cached


def test_sealed_is_read_only(store: Store) -> None:
    made, _ = make(store)
    path = store.root / made.name / "note.txt"
    assert path.stat().st_mode & 0o222 == 0
    assert path.parent.stat().st_mode & 0o222 == 0


def test_vanished_file_is_a_miss(store: Store) -> None:
    made, _ = make(store)
    folder = store.root / made.name
    folder.chmod(0o755)
    (folder / "note.txt").unlink()
    again, cached = make(store)
    assert not cached
    assert again.digest == made.digest
    assert (folder / "note.txt").read_text() == "a"


def test_damage_is_found(store: Store) -> None:
    made, _ = make(store)
    path = store.root / made.name / "note.txt"
    path.chmod(0o644)
    path.write_text("b")  # same size
    assert damaged_keys(store) == [Path(made.name).name]


def test_stats_must_be_finite(work: Workdir) -> None:
    with pytest.raises(DataError, match=r"stats: stats must be finite, not {'loss': nan}$"):
        work.seal(Report, stats={"loss": float("nan")})
    assert not (work.root / "sealed").exists()


def test_a_link_is_no_part_of_an_artifact(work: Workdir, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_text("mine")
    target.chmod(0o400)
    (work.folder / "inner").mkdir()
    for name in ("inner/link", "gone"):
        (work.folder / name).symlink_to(target if name != "gone" else tmp_path / "absent")
        with pytest.raises(DataError, match=f"component: {name} is a link or no plain file"):
            work.seal(Report)
        Workdir(work.root, work.key, work.lineage)  # the next try
        assert not (work.folder / name).is_symlink()
    assert target.stat().st_mode & 0o777 == 0o400
    os.mkfifo(work.folder / "pipe")
    with pytest.raises(DataError, match="component: pipe is a link or no plain file"):
        work.seal(Report)
    (work.folder / "pipe").unlink()
    work.seal(Report)


def seal_another(config: NoteConfig, work: Workdir) -> Report:
    return work.seal(Corpus)  # type: ignore[return-value]


def test_a_stage_seals_the_kind_that_it_promises(store: Store) -> None:
    request = store.make_request(seal_another, NoteConfig(), {})
    with pytest.raises(
        ConfigError, match=r"seal_another: seals Corpus, and .* annotated as Report"
    ):
        store.run_request(request)
    assert not list(store.root.glob("sealed/*"))


def test_a_folder_that_cannot_be_copied_is_one_line(store: Store, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "note.txt").write_text("a")
    (given / "broken").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"given/broken: cannot be copied into the store: ") as told:
        store.adopt_files(given, Corpus)
    assert "\n" not in str(told.value)
    assert not list(store.root.glob("partial/*"))
    (given / "broken").unlink()
    os.mkfifo(given / "pipe")
    with pytest.raises(DataError, match=r"given/pipe. is a named pipe"):
        store.adopt_files(given, Corpus)


def test_a_stage_seals_once(work: Workdir) -> None:
    work.seal(Report)
    with pytest.raises(ConfigError, match="component: has sealed already"):
        work.seal(Report)


def test_stats_and_volatile_are_outside_the_digest(tmp_path: Path) -> None:
    digests = []
    for value in (1.0, 2.0):
        work = Workdir.temporary(tmp_path)
        (work.folder / "a.txt").write_text("same")
        (work.volatile / "clock.txt").write_text(str(value))
        (work.scratch / "journal").write_text(str(value))
        sealed = work.seal(Report, stats={"figure": value})
        digests.append(sealed.digest)
        assert (tmp_path / sealed.name / "volatile" / "clock.txt").exists()
        assert not (tmp_path / sealed.name / "scratch").exists()
    assert digests[0] == digests[1]


def test_failed_stage_leaves_nothing_sealed_and_goes_on(store: Store) -> None:
    def key_folder() -> list[Path]:
        return list((store.root / "partial").glob("*/out/half.txt"))

    with pytest.raises(DataError):
        store.run_request(store.make_request(fail_once, NoteConfig(), {}))
    assert not (store.root / "sealed").exists()
    assert len(key_folder()) == 1  # what it had done waits for the next try
    made, cached = store.run_request(store.make_request(fail_once, NoteConfig(), {}))
    assert not cached
    assert (store.root / made.name / "half.txt").read_text() == "1"
    assert not key_folder()


def fail_once(config: NoteConfig, work: Workdir) -> Report:
    half = work.folder / "half.txt"
    if not half.exists():
        half.write_text("1")
        raise DataError("shard 00000: row 3: no text")
    return work.seal(Report)


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MillError, match="no space left") as caught, explain_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
    assert "\n" not in str(caught.value)


FULL_DISK = """
import sys
from pathlib import Path
from components.core.store.artifact import Report
from components.core.errors import MillError
from components.core.store.workdir import Workdir
root = Path(sys.argv[1])
work = Workdir.temporary(root)
(work.folder / "a.bin").write_bytes(b"0" * 900_000)
(root / "ballast").write_bytes(b"0" * (1_000_000 - 900_000))
filler = (root / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(b"0" * 4096)
except OSError:
    filler.close()
try:
    work.seal(Report)
except MillError as error:
    print(error)
sealed = list(root.glob("sealed/*"))
(root / "filler").unlink()
again = work.seal(Report)
print("SEALED", len(sealed), "THEN", (root / again.name / "a.bin").stat().st_size)
"""


def test_really_full_disk_at_seal(tmp_path: Path) -> None:
    """A file system of 2 MB, full: one line, nothing sealed, and the next try seals."""
    mount = tmp_path / "small"
    mount.mkdir()
    script = (
        f"mount -t tmpfs -o size=2m tmpfs {mount} && exec {sys.executable} -c '{FULL_DISK}' {mount}"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mounts on this machine: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().splitlines()
    assert first.startswith("no space left while writing")
    assert second == "SEALED 0 THEN 900000"


RACE = """
import sys, time
from pathlib import Path
from components.core.store.artifact import Report
from components.core.config.stage_config import StageConfig
from components.core.store.store import Store
from components.core.store.workdir import Workdir

class Config(StageConfig):
    pass

def slow(config: Config, work: Workdir) -> Report:
    with (root / "count").open("a") as file:
        file.write("x")
    time.sleep(1.0)
    return work.seal(Report)

slow.__module__ = "tests.slow"
root = Path(sys.argv[1])
store = Store(root / "store")
store.code.code_parts = lambda component, config=None: {}
print(store.run_request(store.make_request(slow, Config(), {}))[0].digest)
"""


def test_two_runs_race_for_one_key(tmp_path: Path) -> None:
    """Both end with the same artifact and the stage ran once."""
    script = tmp_path / "race.py"
    script.write_text(RACE)
    racers = [
        subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    digests = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(digests) == 1
    assert (tmp_path / "count").read_text() == "x"
    assert len(list((tmp_path / "store" / "sealed").iterdir())) == 1


KILLED = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from components.core.store.artifact import Report
    from components.core.config.stage_config import StageConfig
    from components.core.store.shards import shard_name
    from components.core.store.store import Store
    from components.core.store.workdir import Workdir

    class Config(StageConfig):
        pass

    def units(config: Config, work: Workdir) -> Report:
        for index in range(20):
            path = work.folder / shard_name(index)
            if not path.exists():
                time.sleep(0.02)
                beside = path.with_name("x.tmp")
                beside.write_text(str(index) * 100)
                beside.replace(path)
                print(index, flush=True)
        return work.seal(Report)

    units.__module__ = "tests.units"
    store = Store(Path(sys.argv[1]))
    store.code.code_parts = lambda component, config=None: {}
    made, cached = store.run_request(store.make_request(units, Config(), {}))
    print("DIGEST", made.digest, cached, flush=True)
    """
)


def test_kill_loses_at_most_the_unit_in_hand(tmp_path: Path) -> None:
    script = tmp_path / "units.py"
    script.write_text(KILLED)
    unbroken = subprocess.run(
        [sys.executable, script, tmp_path / "one"], capture_output=True, text=True, check=True
    )
    done: list[str] = []
    for _ in range(50):
        process = subprocess.Popen(
            [sys.executable, script, tmp_path / "two"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("DIGEST"):
                assert line == unbroken.stdout.splitlines()[-1] + "\n"
                break
            done.append(line)
            if len(done) % 4 == 0:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert len(done) <= 20 + 5  # five kills, each repeating at most one unit
    assert sorted(set(map(int, done))) == list(range(20))
    manifest = json.loads(next((tmp_path / "two" / "sealed").glob("*/artifact.json")).read_bytes())
    assert "x.tmp" not in manifest["files"]


def test_a_half_seal_is_undone(store: Store) -> None:
    """Killed with the manifest written and nothing published: the next seal is not led astray."""
    clean, _ = make(store)
    request = store.make_request(write_note, NoteConfig(text="ab"), {})
    work = store.open_workdir(request)
    (work.folder / "note.txt").write_text("x")
    (work.folder / "note.txt").chmod(0o444)
    (work.folder / "artifact.json").write_text("{}")
    (work.folder / "artifact.json.tmp").write_text("{")
    made, cached = make(store, "ab")
    assert (cached, made.digest) == (False, clean.digest)
    manifest = store.read_manifest(request.key)
    assert manifest is not None
    assert list(manifest["files"]) == ["note.txt"]
    assert make(store, "ab")[1]


def test_leavings_of_a_publish_are_cleared(store: Store) -> None:
    """Killed after the rename and before the tidying up: a hit clears what is left."""
    made, _ = make(store)
    left = store.root / "partial" / Path(made.name).name / "scratch"
    left.mkdir(parents=True)
    assert make(store)[1]
    assert not left.parent.exists()


def test_adopted_files_are_keyed_by_content(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "mine.txt"
    source.write_text("hello")
    one, again = store.adopt_files(source, Corpus), store.adopt_files(source, Corpus)
    assert one == again
    source.write_text("other")
    assert store.adopt_files(source, Corpus).digest != one.digest
    # A wrong first try as one kind does not stand in the way of another.
    assert isinstance(store.adopt_files(source, Report), Report)
    assert not list((store.root / "partial").iterdir())


def test_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    made, _ = make(store)
    store.root.rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    again, cached = make(moved)
    assert cached
    assert again == made
