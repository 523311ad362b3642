"""The deployments of ``prefect.yaml`` on a real server, with a real worker.

Everything is seen once, in one scenario: a schedule of five seconds is missed for a while, then a
worker comes up and runs until two runs are through.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components.core.process.process_tree import terminate_processes
from components.core.settings import Settings
from flows.configs.presets import PRESETS
from flows.configs.target_config import read_target
from flows.pipelines.deployments import form_assignments
from tests.flows.conftest import ROOT, CommandLine, Server

Ran = tuple[CommandLine, dict[str, Any]]
NAME = "seen"
pytestmark = pytest.mark.timeout(600)
DATE = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Fired:
    """What the server holds after the scenario."""

    server: Server
    modelmill: CommandLine
    runs: list[dict[str, Any]]
    """All flow runs of the deployment, in the order in which they were due."""

    def ended(self, kind: str) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["state_type"] == kind]

    def record(self, run: dict[str, Any]) -> dict[str, Any]:
        """What the workspace says of a flow run."""
        files = (self.modelmill.home / "runs").glob("*.json")
        records = [json.loads(path.read_bytes()) for path in files]
        found: dict[str, Any] = next(r for r in records if r.get("flow_run") == run["id"])
        return found

    def about(self, kind: str, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The artifacts or logs of one flow run."""
        held_in = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        if kind == "logs":
            held_in = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
        found: list[dict[str, Any]] = self.server.ask(f"{kind}/filter", held_in)
        return found


def prefect(server: Server, *arguments: str, home: Path | None = None) -> list[str]:
    """Run ``prefect`` in the checkout; the lines that it said."""
    environment = server.environment() | ({"MODELMILL_HOME": str(home)} if home else {})
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def pool(server: Server) -> Server:
    prefect(server, "work-pool", "create", "modelmill", "--type", "process")
    return server


def every_five_seconds(folder: Path) -> Path:
    """``nightly`` as it stands in ``prefect.yaml``, on ``nano`` and oftener."""
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly = next(d for d in content["deployments"] if d["name"] == "nightly")
    nightly["schedules"] = [{"interval": 5, "timezone": "Etc/UTC"}]
    nightly["parameters"] = {"target": "nano", "least_change": 0.01, "set": [f"name={NAME}"]}
    path = folder / "often.yaml"
    path.write_text(yaml.safe_dump({**content, "deployments": [nightly]}))
    return path


def runs_of(server: Server) -> list[dict[str, Any]]:
    due = {"sort": "EXPECTED_START_TIME_ASC", "deployments": {"name": {"any_": ["nightly"]}}}
    found: list[dict[str, Any]] = server.ask("flow_runs/filter", due)
    return found


def wait_for(server: Server, done: Any, what: str) -> list[dict[str, Any]]:
    until = time.monotonic() + 200
    while not done(runs := runs_of(server)):
        assert time.monotonic() < until, f"{what}: {[(r['name'], r['state_name']) for r in runs]}"
        time.sleep(0.5)
    return runs


def late(runs: list[dict[str, Any]]) -> bool:
    return sum(run["estimated_start_time_delta"] > 1 for run in runs) > 2


def twice(runs: list[dict[str, Any]]) -> bool:
    assert not [run for run in runs if run["state_type"] in ("FAILED", "CRASHED")], runs
    return sum(run["state_type"] == "COMPLETED" for run in runs) >= 2


@pytest.fixture(scope="module")
def fired(pool: Server, nano: Ran, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fired]:
    folder = tmp_path_factory.mktemp("fired")
    modelmill = CommandLine(folder / "home")
    shutil.copytree(nano[0].home, modelmill.home, symlinks=True)
    prefect(
        pool, "--no-prompt", "deploy", "--all", "--prefect-file", str(every_five_seconds(folder))
    )
    wait_for(pool, late, "runs that nobody took")
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "modelmill"],
        cwd=ROOT,
        env=pool.environment() | {"MODELMILL_HOME": str(modelmill.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        runs = wait_for(pool, twice, "two runs")
        prefect(pool, "deployment", "schedule", "clear", "text/nightly", "-y")
        yield Fired(pool, modelmill, runs)
    finally:
        family = psutil.Process(worker.pid)
        # A run may be at work yet, and nobody asks for its end.
        terminate_processes([*family.children(recursive=True), family], seconds=3)
        worker.wait()


def test_a_schedule_fires_twice_and_registers_a_version(fired: Fired) -> None:
    first, second = fired.ended("COMPLETED")[:2]
    assert first["name"] == f"{NAME}-v1"
    models = [m for m in fired.modelmill.answer("models")["models"] if m["model"] == NAME]
    assert [(m["version"], m["aliases"]) for m in models] == [("1", ["champion"])]
    assert first["state"]["message"].startswith("version 1; champion")
    assert second["state"]["message"] == "unchanged: 0 % of documents changed, less than 1 %"
    assert second["name"].startswith(f"{NAME}-2")


def test_the_crawl_stands_for_the_schedules_date(fired: Fired) -> None:
    for run in fired.ended("COMPLETED")[:2]:
        due = datetime.fromisoformat(run["expected_start_time"]).strftime(DATE)
        scraped = fired.record(run)["steps"][0]
        manifest = fired.modelmill.home / "store" / scraped["artifact"] / "artifact.json"
        assert json.loads(manifest.read_bytes())["config"]["as_of"] == due


def test_nothing_runs_after_too_little_change(fired: Fired) -> None:
    first, second = (fired.record(run) for run in fired.ended("COMPLETED")[:2])
    assert [step["stage"] for step in second["steps"]][-2:] == ["check", "change"]
    assert second["steps"][-1]["stats"]["changed_share"] == 0
    assert first["steps"][-1]["stage"] != "change"


def test_missed_and_overlapping_runs_do_not_pile_up(fired: Fired) -> None:
    first = fired.ended("COMPLETED")[0]
    ran = sorted((r["start_time"], r["end_time"]) for r in fired.ended("COMPLETED"))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ran))
    due = [r for r in fired.runs if r["expected_start_time"] < first["start_time"]]
    missed = [r for r in due if r["state_type"] != "COMPLETED"]
    assert len(missed) >= 2, "runs that were due before any worker was there"
    assert {r["state"]["message"] for r in missed} == {"Deployment concurrency limit reached."}
    assert {r["total_run_time"] for r in missed} == {0.0}


def test_steps_are_task_runs_of_the_workers_own_flow_run(fired: Fired) -> None:
    first = fired.ended("COMPLETED")[0]
    tasks = fired.server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [first["id"]]}}})
    states = {task["name"]: task["state_name"] for task in tasks}
    assert states["select"] == "Cached"
    assert states["registry"] == "Completed"
    assert {run["flow_id"] for run in fired.runs} == {first["flow_id"]}


def test_the_ui_shows_tables_and_a_summary(fired: Fired) -> None:
    first = fired.ended("COMPLETED")[0]
    shown = {artifact["key"]: artifact for artifact in fired.about("artifacts", first)}
    assert {
        "seen-funnel",
        "seen-curve-pretrain",
        "seen-figures-loss",
        "seen-parity",
    } <= shown.keys()
    funnel = json.loads(shown["seen-funnel"]["data"])
    assert funnel[-1]["what"] == "kept"
    assert "models:/seen/1" in shown["seen-summary"]["data"]


def test_the_log_has_a_line_a_step_and_no_traceback(fired: Fired) -> None:
    first = fired.ended("COMPLETED")[0]
    lines = [entry["message"] for entry in fired.about("logs", first)]
    assert [line for line in lines if line.startswith("select: Cached")]
    assert not [line for line in lines if "Traceback" in line]


@pytest.fixture(scope="module")
def form(pool: Server) -> str:
    """The id of the deployment with the form, deployed with all others of the checkout."""
    prefect(pool, "--no-prompt", "deploy", "--all")
    prefect(pool, "deployment", "schedule", "clear", "text/nightly", "-y")
    found: str = pool.ask("deployments/name/text-form/on-demand")["id"]
    return found


def test_every_field_of_the_form_says_what_it_means(pool: Server, form: str) -> None:
    schema = pool.ask(f"deployments/{form}")["parameter_openapi_schema"]
    assert schema["properties"]["preset"]["enum"] == list(PRESETS)
    assert [n for n, field in schema["properties"].items() if not field.get("description")] == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"preset": "giant"},
        {"pretrain_minutes": -3},
        {"max_pages": 0},
        {"least_change": 1.5},
        {"yaml": "notes.txt"},
        {"name": "../evil"},
        {"set": "pretrain.steps=1"},
    ],
)
def test_a_wrong_value_is_refused_by_the_form(
    pool: Server, form: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        pool.ask(f"deployments/{form}/create_flow_run", {"parameters": parameters})
    assert refused.value.code in (409, 422)


def in_process(server: Server, home: Path, call: str) -> dict[str, Any]:
    """Call a deployed flow without a worker; its state as an object."""
    code = f"""
import json
from flows.pipelines.deployments import on_demand, scheduled
state = {call}
print(json.dumps([state.name, state.message]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=server.environment() | {"MODELMILL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    name, message = json.loads(done.stdout.splitlines()[-1])
    return {"name": name, "message": message}


def test_what_only_the_run_can_know_is_one_line(server: Server, tmp_path: Path) -> None:
    call = "on_demand(preset='nano', set=['pretrain.minutez=5'], return_state=True)"
    state = in_process(server, tmp_path / "home", call)
    assert state["name"] == "Failed"
    assert state["message"].startswith("--set pretrain.minutez=5: pretrain.minutez: unknown field")
    assert not (tmp_path / "home" / "store").exists()


def test_minutes_count_where_the_preset_counts_steps(tmp_path: Path) -> None:
    here = Settings(home=tmp_path, reference_data=tmp_path)
    given = {"pretrain.minutes": 2.5, "sft.minutes": None, "scrape.seeds": ["https://a.example/"]}
    config = read_target("nano", form_assignments(given), here)
    assert (config.pretrain.minutes, config.pretrain.steps) == (2.5, None)
    assert config.sft.steps == 20
    assert config.scrape.seeds == ["https://a.example/"]
