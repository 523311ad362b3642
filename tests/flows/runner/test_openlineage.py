"""OpenLineage events: what a run tells, what it keeps to itself, and that nothing of it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.core.action import Workspace
from components.core.errors import DataError
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import Report
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.runner.openlineage import OpenLineageListener, workspace_id
from flows.runner.runner import StoreRunner
from tests.flows.runner.test_runner import StageConfig, chain


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


def run(settings: Settings, **changes: Any) -> None:
    chain(runner(settings), **changes)


def runner(settings: Settings) -> StoreRunner:
    return StoreRunner(
        Store(settings.store), Workspace(settings), listener=OpenLineageListener(settings, "tiny")
    )


def told(settings: Settings) -> list[dict[str, Any]]:
    path = settings.home / "lineage" / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def check_schema(event: dict[str, Any]) -> None:
    """What the specification's RunEvent requires (OpenLineage 2-0-2)."""
    assert set(event) >= {"run", "job", "eventTime", "producer", "schemaURL", "eventType"}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    uuid.UUID(event["run"]["runId"])
    assert event["job"]["name"]
    facets = [event["run"]["facets"], event["job"]["facets"]]
    for one in event["inputs"] + event["outputs"]:
        assert one["namespace"] == event["job"]["namespace"]
        facets.append(one["facets"])
    for facet in (facet for named in facets for facet in named.values()):
        assert facet["_producer"] == "urn:modelmill"
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")


def test_a_run_tells_start_and_complete_with_inputs_and_outputs(settings: Settings) -> None:
    run(settings)
    events = told(settings)
    for event in events:
        check_schema(event)
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        (f"tiny.{step}", state)
        for step in ("write", "count", "announce")
        for state in ("START", "COMPLETE")
    ]
    ends = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    (written,) = ends["tiny.write"]["outputs"]
    assert written["name"].startswith("corpus/")
    (read,) = ends["tiny.count"]["inputs"]
    assert read["name"] == written["name"]
    namespace = f"modelmill://{workspace_id(settings.home / 'lineage')}"
    assert {event["job"]["namespace"] for event in events} == {namespace}
    assert len({event["run"]["facets"]["parent"]["run"]["runId"] for event in events}) == 1


def test_a_cached_run_tells_nothing_and_never_imports_the_client(settings: Settings) -> None:
    run(settings)
    before = len(told(settings))
    run(settings)
    assert len(told(settings)) == before
    program = (
        "import sys; from pathlib import Path\n"
        "from flows.runner.openlineage import OpenLineageListener\n"
        "from flows.runner.runner import StepResult, CACHED\n"
        "from components.core.store.artifact import Report, Lineage\n"
        "from components.core.settings import Settings\n"
        "home = Path(sys.argv[1]); events = OpenLineageListener(Settings(home, home), 'x')\n"
        "events.started('a')\n"
        "made = Report(name='n', digest='d', lineage=Lineage(component='c', code='', config=''))\n"
        "events.finished(StepResult('a', CACHED, 0.0, made))\n"
        "sys.exit(any(name.startswith('openlineage') for name in sys.modules))\n"
    )
    call = [sys.executable, "-c", program, str(settings.home)]
    assert subprocess.run(call, check=False).returncode == 0


def test_a_failure_says_why_without_secrets(settings: Settings) -> None:
    def fail(config: StageConfig, work: Workdir) -> Report:
        raise DataError("https://user:pass@a.example/ is wrong")

    with pytest.raises(DataError):
        runner(settings).step("fail", fail, StageConfig())
    start, end = told(settings)
    assert (start["eventType"], end["eventType"]) == ("START", "FAIL")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["run"]["facets"]["errorMessage"]["message"] == "https://***@a.example/ is wrong"
    check_schema(end)


def test_a_stopped_step_is_an_abort(settings: Settings) -> None:
    events = OpenLineageListener(settings, "tiny")
    events.started("pretrain")
    events.progressed("pretrain", Progress())
    events.progressed("pretrain", Progress())
    events.failed("pretrain", KeyboardInterrupt())
    assert [event["eventType"] for event in told(settings)] == ["START", "ABORT"]


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that takes events, or refuses them."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/lineage"
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("path", ["", "/", "/api/v1/lineage", "/api/v1/lineage/"])
def test_events_go_to_an_address(tmp_path: Path, path: str) -> None:
    with receiver(201) as (url, taken):
        given = f"{url}{path}"
        settings = Settings(home=tmp_path, reference_data=tmp_path, openlineage_url=given)
        run(settings)
    assert len(taken) == 6
    assert told(settings) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "refusing"])
def test_an_address_that_does_not_take_them_is_said_once_and_the_run_goes_on(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(500) as (refusing, taken):
        given = refusing if url == "refusing" else url
        settings = Settings(home=tmp_path, reference_data=tmp_path, openlineage_url=given)
        run(settings)
    assert len(told(settings)) == 6  # the file has them all
    assert len(taken) == (1 if url == "refusing" else 0)
    warnings = [record for record in caplog.records if "lineage events" in record.message]
    assert len(warnings) == 1


def test_a_full_disk_is_no_failure_of_the_run(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.home / "lineage").write_text("no folder can be made here")
    run(settings)
    assert "cannot be written" in caplog.text
