"""Each planted fault is found, named, and comes with a command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.process.process_tree import process_start_time
from components.core.progress import Progress
from components.core.store.store import Store
from flows.operations.doctor import (
    endpoint_check,
    machine_checks,
    package_checks,
    privacy_checks,
    process_checks,
    registry_checks,
    store_checks,
)
from flows.operations.doctor.diagnosis import examine_workspace
from flows.operations.doctor.finding import Finding
from flows.operations.up.platform_state import PlatformState, ServiceState, write_state
from flows.runner.run_records import read_records
from tests.flows.conftest import CommandLine
from tests.workspace import Hand


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path / "home")


def bad(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.state in ("warning", "broken")]


def writable(hand: Hand, artifact: Any) -> Path:
    """A sealed folder that was opened to be meddled with."""
    folder = hand.store / artifact.name
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


def deep(hand: Hand) -> list[Finding]:
    return bad(store_checks.check_contents(hand.settings, Progress()))


# --- the endpoint ----------------------------------------------------------------------------


class Talker(BaseHTTPRequestHandler):
    """Answers as an endpoint does, with what its server was told."""

    server: TalkServer

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._say(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self._say(*self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class TalkServer(HTTPServer):
    answer: tuple[int, Any] = (200, {})

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talker)
        self.asked: list[Any] = []


@pytest.fixture
def endpoint(hand: Hand) -> Iterator[TalkServer]:
    """A running ``up`` whose endpoint is a small server."""
    server = TalkServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pid = os.getpid()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    services = (ServiceState("endpoint", "endpoint", address, "up"),)
    hand.settings.home.mkdir(parents=True, exist_ok=True)
    write_state(hand.settings, PlatformState(pid, process_start_time(pid), 0.0, "", True, services))
    yield server
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_a_question(hand: Hand, endpoint: TalkServer) -> None:
    (fine,) = endpoint_check.check_endpoint(hand.settings)
    assert (fine.state, "answered after" in fine.what) == ("ok", True)
    assert endpoint.asked[0]["model"] == "tiny"
    assert endpoint.asked[0]["max_tokens"] == 1


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (500, "engine", "broken"),
        (503, "failed", "broken"),
        (503, "no_champion", "info"),
        (401, "invalid_api_key", "warning"),
        (429, "rate_limit_exceeded", "warning"),
    ],
)
def test_an_endpoint_that_refuses(
    hand: Hand, endpoint: TalkServer, status: int, code: str, state: str
) -> None:
    endpoint.answer = (status, {"error": {"code": code, "message": "the reason"}})
    (found,) = endpoint_check.check_endpoint(hand.settings)
    assert found.state == state
    assert bool(found.fix) is (state != "info")


def test_an_endpoint_that_is_gone_though_up_runs(hand: Hand, endpoint: TalkServer) -> None:
    endpoint.shutdown()
    endpoint.server_close()
    (found,) = endpoint_check.check_endpoint(hand.settings)
    assert found.state == "broken"
    assert "does not answer" in found.what
    assert found.fix.startswith("modelmill down")


def test_no_endpoint_is_looked_for_where_up_does_not_run(hand: Hand) -> None:
    (found,) = endpoint_check.check_endpoint(hand.settings)
    assert (found.state, found.fix) == ("info", "")


# --- the machine -----------------------------------------------------------------------------


def test_a_lock_that_names_what_is_not_installed(tmp_path: Path) -> None:
    rich = importlib.metadata.version("rich")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# a comment\nrich=={rich}\n")
    (fine,) = package_checks.compare_with_lock(lock)
    assert (fine.state, fine.what) == ("ok", "all 1 as in requirements.lock")
    lock.write_text("rich==1.0\nno-such-package==2.0 ; python_version < '3'\nnor-this==3.1\n")
    missing, other = package_checks.compare_with_lock(lock)
    assert (missing.state, missing.what) == ("broken", "not installed: nor-this 3.1")
    assert (other.state, other.what) == ("warning", f"rich is {rich}, the lock says 1.0")
    assert missing.fix.endswith("-m pip install -r requirements.lock")
    (gone,) = package_checks.compare_with_lock(tmp_path / "nowhere.lock")
    assert gone.state == "broken"


def test_a_taken_port_and_who_took_it(hand: Hand) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (finding,) = machine_checks.check_listed_ports(hand.settings, {port: "the endpoint"})
    assert finding.state == "warning"
    assert f"(process {os.getpid()})" in finding.what
    assert finding.fix.startswith(f"kill {os.getpid()}")
    (free,) = machine_checks.check_listed_ports(hand.settings, {port: "the endpoint"})
    assert free.state == "ok"


def test_a_port_that_this_workspace_took_is_no_finding(hand: Hand) -> None:
    script = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
    script += "print(s.getsockname()[1], flush=True); sys.stdin.readline()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "MODELMILL_HOME": str(hand.settings.home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    (finding,) = machine_checks.check_listed_ports(hand.settings, {port: "the endpoint"})
    process.communicate("\n")
    assert finding.state == "ok"
    assert f"of this workspace (process {process.pid})" in finding.what


def test_a_disk_that_the_next_run_would_fill(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hand.seal("x" * 5000)
    hand.record("run", {"made": made})
    need = machine_checks.measure_last_run(hand.settings)
    assert need == 5000
    (fine,) = machine_checks.check_disk(hand.settings)
    assert "writes up to 5.0 kB" in fine.what
    monkeypatch.setattr(machine_checks, "MIN_DISK_BYTES", 1e18)
    (full,) = machine_checks.check_disk(hand.settings)
    assert (full.state, full.fix) == ("broken", "modelmill gc --dry-run")


def test_things_from_the_future(hand: Hand) -> None:
    assert bad(machine_checks.check_clock(hand.settings)) == []
    hand.seal("later", days=-1)
    (finding,) = machine_checks.check_clock(hand.settings)
    assert "in the future" in finding.what


# --- privacy ---------------------------------------------------------------------------------


def test_a_server_without_the_switches_and_a_file_that_turns_them_on(hand: Hand) -> None:
    stripped = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PREFECT"))}
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "mlflow server"],
        env={**stripped, "MODELMILL_HOME": str(hand.settings.home)},
    )
    profiles = hand.settings.prefect / "profiles.toml"
    profiles.parent.mkdir(parents=True)
    profiles.write_text('[profiles.x]\nPREFECT_SERVER_ANALYTICS_ENABLED = "true"\n')
    try:
        found = bad(privacy_checks.check_telemetry(hand.settings))
    finally:
        process.kill()
        process.wait()
    server = next(f for f in found if f"process {process.pid}" in f.what)
    assert "MLFLOW_DISABLE_TELEMETRY" in server.what or "PREFECT" in server.what
    assert any("profiles.toml:2 turns analytics on" in f.what for f in found)


def test_an_open_server_without_a_key(hand: Hand) -> None:
    script = "import socket, sys; s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); "
    script += "print('up', flush=True); sys.stdin.readline()"
    environment = {**os.environ, "MODELMILL_HOME": str(hand.settings.home)}
    for key, states in (("", ["broken"]), ("secret", [])):
        process = subprocess.Popen(
            [sys.executable, "-c", script, "bentoml"],
            env={**environment, "MODELMILL_API_KEY": key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        found = bad(privacy_checks.check_access(hand.settings))
        process.communicate("\n")
        assert [finding.state for finding in found] == states
        assert "secret" not in str(found)


def test_a_workspace_that_anybody_may_write(hand: Hand) -> None:
    hand.settings.home.mkdir(mode=0o755)
    assert bad(privacy_checks.check_permissions(hand.settings)) == []
    hand.settings.home.chmod(0o777)
    (finding,) = privacy_checks.check_permissions(hand.settings)
    assert finding.fix.startswith("chmod -R o-w")


# --- the store -------------------------------------------------------------------------------


def test_a_flipped_byte_is_found_by_reading_everything(hand: Hand) -> None:
    made = hand.seal("content")
    hand.record("run", {"made": made})
    assert deep(hand) == []
    (writable(hand, made) / "content.txt").write_text("c0ntent")
    assert bad(store_checks.check_store(hand.settings)) == []  # the same size
    (finding,) = deep(hand)
    assert "its content has changed since it was sealed" in finding.what
    _mend(finding)  # all but the run, which the next line of it would start
    assert bad(store_checks.check_store(hand.settings)) == []
    assert deep(hand) == []


def test_a_link_in_an_artifact_is_named(hand: Hand) -> None:
    made = hand.seal("content")
    hand.record("run", {"made": made})
    (writable(hand, made) / "more").symlink_to("content.txt")
    findings = deep(hand)
    assert any("links, or no plain files: more" in finding.what for finding in findings)


def _mend(finding: Finding) -> None:
    """Type what a finding says, without the run at its end."""
    command, *_ = finding.fix.partition(" && modelmill run")
    subprocess.run(["sh", "-c", command], check=True)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("deleted", "missing files: content.txt"),
        ("shorter", "files of another size: content.txt"),
        ("no manifest", "artifact.json cannot be read"),
        ("half a manifest", "artifact.json cannot be read"),
        ("edited manifest", "artifact.json was edited"),
    ],
)
def test_damage_is_found_without_reading_everything(hand: Hand, fault: str, told: str) -> None:
    made = hand.seal("content", {"corpus": hand.seal("parent")})
    hand.record("run", {"made": made})
    folder = writable(hand, made)
    manifest = folder / "artifact.json"
    if fault == "deleted":
        (folder / "content.txt").unlink()
    elif fault == "shorter":
        (folder / "content.txt").write_text("c")
    elif fault == "no manifest":
        manifest.unlink()
    elif fault == "half a manifest":
        manifest.write_text(manifest.read_text()[:50])
    else:
        content = json.loads(manifest.read_text())
        content["artifact"]["lineage"]["parents"] = {"corpus": "0" * 64}
        manifest.write_text(json.dumps(content))
    (finding,) = bad(store_checks.check_store(hand.settings))
    assert finding.state == "broken"
    assert told in finding.what
    assert "modelmill run nano" in finding.fix


def test_a_damaged_copy_in_dvcs_cache(hand: Hand) -> None:
    cached = hand.settings.datasets / ".dvc" / "cache" / "files" / "md5" / "5d"
    cached.mkdir(parents=True)
    (cached / "41402abc4b2a76b9719d911017c592").write_text("hello")
    assert deep(hand) == []
    (cached / "41402abc4b2a76b9719d911017c592").write_text("hallo")
    (finding,) = deep(hand)
    assert "DVC's object is damaged" in finding.what


def test_stale_stages_trash_and_what_is_at_work(hand: Hand) -> None:
    partial = hand.store / "partial" / "old"
    partial.mkdir(parents=True)
    hand.age(partial, 30)
    (hand.store / ".trash" / "x").mkdir(parents=True)
    stale, trash = bad(store_checks.check_leftovers(hand.settings))
    assert "unfinished for more than 7 days: old" in stale.what
    assert "trash" in trash.what
    assert stale.fix == trash.fix == "modelmill gc"
    with Store(hand.store).lock_key("old"):
        assert [f.check for f in bad(store_checks.check_leftovers(hand.settings))] == ["leftovers"]
        assert any(
            "running now: old" in f.what for f in store_checks.check_leftovers(hand.settings)
        )


# --- beside the store ------------------------------------------------------------------------


def test_a_pin_whose_files_are_gone(hand: Hand) -> None:
    root = hand.settings.datasets
    root.mkdir(parents=True)
    pin = {"outs": [{"md5": "ab" + "0" * 30 + ".dir", "path": "corpus-0"}], "meta": {"corpus": "1"}}
    (root / "corpus-0.dvc").write_text(yaml.safe_dump(pin))
    (finding,) = bad(registry_checks.check_datasets(hand.settings))
    assert "DVC holds no listing of its files" in finding.what
    listing = root / "remote" / "files" / "md5" / "ab" / ("0" * 30 + ".dir")
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps([{"relpath": "a.parquet", "md5": "cd" + "0" * 30}]))
    (finding,) = bad(registry_checks.check_datasets(hand.settings))
    assert "neither cache nor remote holds a.parquet" in finding.what
    stored = root / "remote" / "files" / "md5" / "cd" / ("0" * 30)
    stored.parent.mkdir()
    stored.write_text("x")
    (finding,) = bad(registry_checks.check_datasets(hand.settings))
    assert finding.state == "warning"
    assert "dvc pull corpus-0.dvc" in finding.fix
    (root / "corpus-0.dvc").write_text("- nonsense")
    (finding,) = bad(registry_checks.check_datasets(hand.settings))
    assert "cannot be read" in finding.what


def test_a_registry_that_is_no_database_does_not_stop_the_other_checks(hand: Hand) -> None:
    hand.settings.mlflow.mkdir(parents=True)
    (hand.settings.mlflow / "mlflow.db").write_text("nonsense" * 100)
    diagnosis = examine_workspace(hand.settings)
    assert diagnosis.failure.startswith("broken: ")
    named = {finding.check for finding in diagnosis.findings if finding.state == "broken"}
    assert "registry" in named
    assert {"store", "runs", "processes"} <= {finding.check for finding in diagnosis.findings}


# --- runs ------------------------------------------------------------------------------------


def test_a_run_whose_process_is_gone_is_found_and_closed(hand: Hand) -> None:
    hand.record("dead", {}, state="running", process=999_999_999)
    hand.record("reused", {}, state="running", process=os.getpid(), days=3000)
    hand.record("mine", {}, state="running", process=os.getpid())
    (finding,) = bad(process_checks.check_runs(hand.settings))
    assert "dead, reused" in finding.what
    assert finding.fix == "modelmill doctor --fix"
    assert len(examine_workspace(hand.settings, fix=True).fixed) == 2
    assert bad(process_checks.check_runs(hand.settings)) == []
    told = {record["run"]: record["state"] for record in read_records(hand.settings.runs)}
    assert told == {"dead": "interrupted", "reused": "interrupted", "mine": "running"}


def test_a_record_that_cannot_be_read(hand: Hand) -> None:
    hand.record("fine", {})
    (hand.settings.runs / "half.json").write_text('{"run": "half"')
    (finding,) = bad(process_checks.check_runs(hand.settings))
    assert "half.json" in finding.what
    assert [record["run"] for record in read_records(hand.settings.runs)] == ["fine"]


def test_a_server_that_outlived_its_run(hand: Hand) -> None:
    """Its parent starts it and ends at once."""
    start = "import subprocess, sys; D = subprocess.DEVNULL; p = subprocess.Popen([sys.executable, '-c', "
    start += "'import time; time.sleep(60)', 'bentoml'], stdout=D, stderr=D); print(p.pid)"
    environment = {**os.environ, "MODELMILL_HOME": str(hand.settings.home)}
    done = subprocess.run(
        [sys.executable, "-c", start], env=environment, capture_output=True, text=True, check=True
    )
    orphan = int(done.stdout)
    try:
        found = bad(process_checks.check_processes(hand.settings))
    finally:
        os.kill(orphan, 9)
    if not found:
        pytest.skip("orphans are adopted by another process than the first one here")
    assert [finding.fix for finding in found] == [f"kill {orphan}"]


def test_lock_files_that_nobody_needs_are_cleared(hand: Hand) -> None:
    made = hand.seal("made")
    locks = hand.store / "locks"
    locks.mkdir()
    for name in ("stray", "held", hand.key(made)):
        (locks / name).touch()
    with Store(hand.store).lock_key("held"):
        fixed = examine_workspace(hand.settings, fix=True).fixed
    assert fixed == ["1 lock files that nothing needs"]
    assert {path.name for path in locks.iterdir()} == {"held", hand.key(made)}


# --- the command -----------------------------------------------------------------------------


def test_the_command_says_what_is_broken_by_its_exit_code(hand: Hand) -> None:
    modelmill = CommandLine(hand.settings.home)
    made = hand.seal("content")
    fine = modelmill("doctor", "--json")
    assert fine.returncode == 0, fine.stdout
    assert json.loads(fine.stdout)["broken"] == 0
    (writable(hand, made) / "content.txt").unlink()
    done = modelmill("doctor")
    assert done.returncode == 1
    assert "✗ store" in done.stdout
    assert "→ chmod" in done.stdout
    assert "Traceback" not in done.stderr


def test_it_imports_nothing_heavy(hand: Hand) -> None:
    script = (
        "import sys; from pathlib import Path; from components.core.settings import Settings; "
        "from flows.operations.doctor.diagnosis import examine_workspace; home = Path(sys.argv[1]); "
        "examine_workspace(Settings(home=home, reference_data=home), deep=True); "
        "print([m for m in ('torch', 'mlflow', 'prefect', 'bentoml', 'dvc') if m in sys.modules])"
    )
    hand.seal("made")
    done = subprocess.run(
        [sys.executable, "-c", script, hand.settings.home], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
