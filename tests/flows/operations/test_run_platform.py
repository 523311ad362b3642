"""``up``: small services that live, die, hang and leave children; and, slowly, the real thing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from components.core.errors import ConfigError, DataError, MillError
from components.core.io.locks import try_lock
from components.core.process import process_tree
from components.core.process.ports import free_port
from components.core.settings import Settings
from components.publish.registry.model_registry import RegisteredVersion
from flows.operations.up import run_platform, up_options
from flows.operations.up.platform_state import (
    FAILED,
    RESTARTING,
    SERVICE_MARK,
    UP,
    PlatformState,
    ServiceState,
    lock_file,
    prefect_api,
    read_state,
    service_mark,
    state_file,
    write_state,
)
from flows.operations.up.platform_status import read_platform_status
from flows.operations.up.services import Ports, Service, list_services, probe_http
from flows.operations.up.supervisor import Supervisor, end_leftovers, find_leftovers
from flows.operations.up.up_options import UpOptions, detached_command
from tests.flows.conftest import ROOT, CommandLine

LIVES = """
import subprocess, sys
from http.server import HTTPServer, BaseHTTPRequestHandler
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            import os; os._exit(7)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
if "child" in sys.argv:
    subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
DIES = "import sys; sys.exit('the port of my heart is taken')"
HANGS = "import time; print('still thinking', flush=True); time.sleep(600)"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    found = Settings(home=tmp_path, reference_data=tmp_path)
    yield found
    end_leftovers(found)


def service(name: str, program: str = LIVES, *arguments: str, after: str | None = None) -> Service:
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    command = (sys.executable, "-c", program, str(port), *arguments)
    return Service(
        name, name.title(), address, command, partial(probe_http, address), depends_on=after
    )


def supervisor(
    settings: Settings, *services: Service, limit: float = 30
) -> tuple[Supervisor, list[ServiceState]]:
    told: list[ServiceState] = []
    made = Supervisor(settings, services, told.append, limit=limit, restarts=2, first_pause=0.05)
    return made, told


def test_all_answer_in_order_and_all_end_with_their_children(settings: Settings) -> None:
    first = service("prefect")
    second = service("mlflow", LIVES, "child", after="prefect")
    made, told = supervisor(settings, second, first)

    async def check() -> None:
        await made.start()
        assert [state.state for state in made.states] == [UP, UP]
        assert len(find_leftovers(settings)) == 3
        await made.end()

    asyncio.run(check())
    answered = [state.name for state in told if state.state == UP]
    assert answered == ["prefect", "mlflow"]
    assert find_leftovers(settings) == []


@pytest.mark.parametrize(
    ("program", "limit", "says"),
    [
        (DIES, 30, r"Mlflow: ended \(1\); it said: the port of my heart is taken \(.*mlflow.log\)"),
        (HANGS, 1, r"Mlflow: did not answer within 1 s; it said: still thinking"),
    ],
)
def test_what_does_not_come_up_is_one_line_and_leaves_nothing(
    settings: Settings, program: str, limit: float, says: str
) -> None:
    made, _ = supervisor(settings, service("mlflow", program), service("endpoint"), limit=limit)

    async def check() -> None:
        try:
            await made.start()
        finally:
            await made.end()

    with pytest.raises(MillError, match=says) as failed:
        asyncio.run(check())
    assert "\n" not in str(failed.value)
    assert find_leftovers(settings) == []


def test_a_service_that_dies_is_started_again_a_stated_number_of_times(settings: Settings) -> None:
    mortal, other = service("endpoint", LIVES, "child"), service("mlflow")
    made, told = supervisor(settings, mortal, other)

    async def until(wanted: Callable[[ServiceState], bool]) -> ServiceState:
        while not wanted(made.states[0]):
            await asyncio.sleep(0.02)
        return made.states[0]

    async def check() -> None:
        await made.start()
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            for restarts in (0, 1, 2):
                state = await until(lambda s, n=restarts: s.state == UP and s.restarts == n)  # type: ignore[misc]
                with pytest.raises(httpx.TransportError):
                    await client.get(mortal.address + "die")
            state = await until(lambda s: s.state == FAILED)
            assert state.note.startswith("ended (7); it said: ")
            assert state.note.endswith("; given up")
            assert (await client.get(other.address)).is_success  # the others go on
        assert len(find_leftovers(settings)) == 1  # no child of a dead one is left
        await made.end()

    asyncio.run(check())
    notes = [state.note for state in told if state.state == RESTARTING]
    assert ["again in 0.05 s (1 of 2)" in notes[0], "again in 0.1 s (2 of 2)" in notes[1]] == [
        True
    ] * 2


def test_services_die_with_a_killed_supervisor_and_the_rest_is_cleared(settings: Settings) -> None:
    code = f"""
    import asyncio, sys
    from pathlib import Path
    from components.core.settings import Settings
    from flows.operations.up.supervisor import Supervisor
    from tests.flows.operations.test_run_platform import service
    home = Path({str(settings.home)!r})
    async def run():
        made = Supervisor(Settings(home, home), [service("mlflow", {LIVES!r}, "child")], lambda _: None, limit=30)
        await made.start()
        print("up", flush=True)
        await asyncio.sleep(600)
    asyncio.run(run())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    main = [p for p in find_leftovers(settings) if "child" in p.cmdline()]
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(main, timeout=10)
    assert (len(gone), alive) == (1, [])
    assert len(find_leftovers(settings)) == 1  # its child, which takes no SIGTERM
    assert end_leftovers(settings) == 1
    assert find_leftovers(settings) == []


def test_only_marked_processes_of_this_workspace_are_cleared(settings: Settings) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    other = f"{settings.home}-other#mlflow"
    marks = [service_mark(settings, "worker"), other]
    started = [subprocess.Popen(sleeper, env={SERVICE_MARK: mark}) for mark in marks]
    try:
        assert end_leftovers(settings) == 1
        assert [process.poll() is None for process in started] == [False, True]
    finally:
        started[1].kill()
        started[1].wait()


def test_a_taken_port_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        says = (
            f"port {port} for MLflow's UI: address already in use, by process {os.getpid()} "
            r"\(.*\); give another with --mlflow-port"
        )
        with pytest.raises(ConfigError, match=says):
            Ports(free_port(), free_port(), port).check()
    with pytest.raises(ConfigError, match="--prefect-port 4: the endpoint has that port"):
        Ports(endpoint=4, prefect=4).check()


def test_a_model_that_is_not_there_is_not_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = RegisteredVersion("tiny", 1, "models:/m-1", {}, ())
    monkeypatch.setattr(up_options, "list_versions", lambda found: [entry])
    ports = Ports(free_port(), free_port(), free_port())
    with pytest.raises(ConfigError, match="--model teny: no such model; there is tiny"):
        UpOptions(ports, model="teny").check(settings)
    UpOptions(ports, model="tiny").check(settings)
    assert detached_command(UpOptions(ports, model="tiny"))[-4:-2] == [
        "--model",
        "tiny",
    ]
    *_, endpoint = list_services(settings, ports, "tiny")
    assert endpoint.command[-1] == "tiny"


def platform(api: str, pid: int, began: float, state: str = UP) -> PlatformState:
    found = ServiceState("prefect", "Prefect", api.removesuffix("/api"), state=state)
    return PlatformState(pid, began, time.time(), api, True, (found,))


def test_a_run_finds_the_server_only_where_it_answers(settings: Settings) -> None:
    assert prefect_api(settings) is None
    me = (os.getpid(), process_tree.process_start_time(os.getpid()))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        api = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        write_state(settings, platform(api, *me))
        assert prefect_api(settings) == api
        write_state(settings, platform(api, me[0], me[1] - 100))  # another process had that id
        assert prefect_api(settings) is None
        write_state(settings, platform(api, *me, state=RESTARTING))
        assert prefect_api(settings) is None
    write_state(settings, platform(api, *me))
    assert prefect_api(settings) is None
    state_file(settings).write_text('{"pid": 1')
    assert prefect_api(settings) is None
    with pytest.raises(DataError, match=r"up.json: cannot be read .*; delete it"):
        read_state(settings)


def test_a_second_up_says_where_the_first_runs(settings: Settings) -> None:
    me = (os.getpid(), process_tree.process_start_time(os.getpid()))
    write_state(settings, platform("http://127.0.0.1:4200/api", *me))
    with try_lock(lock_file(settings)) as mine:
        assert mine
        with pytest.raises(
            ConfigError, match=f"is already running .process {os.getpid()}.: Prefect http"
        ):
            run_platform.run_platform_detached(
                settings, UpOptions(timeout_seconds=1), run_platform.Console()
            )


def test_a_home_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    with pytest.raises(ConfigError, match=r"/home: the workspace cannot be written .Not a dir"):
        run_platform.run_platform_detached(
            Settings(home, home), UpOptions(timeout_seconds=1), run_platform.Console()
        )


def test_status_of_what_is_not_there_and_of_what_was_killed(settings: Settings) -> None:
    nothing = read_platform_status(settings).value
    assert (nothing["running"], nothing["services"], nothing["champions"]) == (False, [], [])
    write_state(settings, platform("http://127.0.0.1:4200/api", 1 << 22, 1.0))
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(sleeper, env={SERVICE_MARK: service_mark(settings, "worker")})
    assert read_platform_status(settings).value["left_behind"] == 1
    assert run_platform.end_platform(settings) == 1
    assert left.poll() is not None
    assert not state_file(settings).exists()
    assert run_platform.end_platform(settings) == 0


@pytest.mark.parametrize(
    ("content", "count"), [("deployments: []", 0), ("name: x", 0), ("deployments: [{}, {}]", 2)]
)
def test_deployments_are_counted(
    content: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_platform, "ROOT", tmp_path)
    (tmp_path / "prefect.yaml").write_text(content)
    assert run_platform.count_deployments() == count
    (tmp_path / "prefect.yaml").write_text("deployments: 3")
    with pytest.raises(ConfigError, match=r"prefect.yaml:1: deployments: must be a list"):
        run_platform.count_deployments()


# What follows is the real thing.

HELLO = """
from prefect import flow
@flow
def hello():
    return 1
"""
DEPLOYMENT = """
name: modelmill
prefect-version: 3.8.8
deployments:
  - name: hello
    entrypoint: hello.py:hello
    work_pool: {name: modelmill}
"""


def copied_checkout(target: Path) -> Path:
    for name in ("flows", "serving", "components", "models", "data"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, target / name)
    (target / "prefect.yaml").write_text(DEPLOYMENT)
    (target / "hello.py").write_text(HELLO)
    return target


def ports() -> list[str]:
    options = ("--port", "--prefect-port", "--mlflow-port")
    return [part for option in options for part in (option, str(free_port()))]


def addresses(value: dict[str, Any]) -> dict[str, str]:
    return {service["name"]: service["address"] for service in value["services"]}


def run_deployment(api: str) -> None:
    """Have the worker run ``hello`` once."""
    with httpx.Client(base_url=api, trust_env=False, timeout=30) as client:
        found = client.get("/deployments/name/hello/hello")
        found.raise_for_status()
        run = client.post(f"/deployments/{found.json()['id']}/create_flow_run", json={}).json()
        while (state := client.get(f"/flow_runs/{run['id']}").json()["state_name"]) != "Completed":
            assert state not in ("Failed", "Crashed"), state
            time.sleep(0.5)


@pytest.mark.slow
def test_the_whole_platform(nano: tuple[CommandLine, dict[str, Any]], tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    modelmill = CommandLine(nano[0].home, copied_checkout(checkout))
    there = Settings(home=modelmill.home, reference_data=modelmill.home)
    try:
        up = modelmill.answer("up", "--detach", *ports())
        places = addresses(up)
        for name, path in (("prefect", "/api/health"), ("mlflow", "/"), ("endpoint", "/models")):
            assert httpx.get(places[name] + path, trust_env=False).is_success, name
        strange = httpx.get(places["mlflow"], headers={"Host": "evil.example"}, trust_env=False)
        assert strange.status_code == 403
        run_deployment(up["prefect_api_url"])
        again = modelmill("up", *ports())
        assert (again.returncode, "already running" in again.stderr) == (2, True)
        modelmill.answer("run", "nano", "--set", "scrape.as_of=2026-01-01T00:00:00Z")
        told = modelmill.answer("status")
        assert {s["state"] for s in told["services"]} == {UP}
        assert told["flow_runs"][0]["name"] == "nano-v1"
        assert [champion["served"] for champion in told["champions"]] == [True]
        os.kill(up["pid"], signal.SIGKILL)
        psutil.wait_procs([p for p in find_leftovers(there) if p.ppid() == 1], timeout=10)
        modelmill.answer("down")
        assert find_leftovers(there) == []
        assert modelmill.answer("status")["running"] is False
    finally:
        end_leftovers(there)


@pytest.mark.slow
def test_an_empty_workspace_in_the_foreground_until_ctrl_c(tmp_path: Path) -> None:
    modelmill = CommandLine(tmp_path / "home")
    there = Settings(home=modelmill.home, reference_data=modelmill.home)
    process = subprocess.Popen(
        modelmill.command("up", "--json", *ports()),
        cwd=modelmill.checkout, env=modelmill.environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        value = json.loads("".join(lines))
        notes = {service["name"]: service["note"] for service in value["services"]}
        assert notes["endpoint"] == "no champion yet"
        answer = httpx.post(addresses(value)["endpoint"] + "/chat/completions", trust_env=False)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "no_champion"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in said
        assert "all ended" in said
        assert find_leftovers(there) == []
    finally:
        process.kill()
        end_leftovers(there)
