"""The four services of ``modelmill up``: how each is started, and how one sees that it answers."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import httpx

from components.core.errors import ConfigError, DataError
from components.core.process.ports import LOOPBACK, port_holder, port_refusal
from components.core.settings import Settings
from components.publish.promotion.endpoint_swap import EndpointSwap
from flows.operations.up.platform_state import ENDPOINT, MLFLOW, PREFECT, WORKER
from flows.runner.prefect.prefect_recovery import crash_stuck_runs

POOL = "modelmill"
Probe = Callable[[httpx.AsyncClient, float], Awaitable[str | None]]
"""Asks a service that was started at a moment (Unix seconds); what it serves (maybe nothing to
say), or None while it does not answer. May raise ``httpx.HTTPError``."""


@dataclass(frozen=True)
class Ports:
    """Where the services listen, on loopback."""

    endpoint: int = 3000
    prefect: int = 4200
    mlflow: int = 5000

    def check(self) -> None:
        """See that all of them are free.

        Raises:
            ConfigError: one is taken, or given twice; names the option and who holds it.
        """
        listed = (
            (self.endpoint, "the endpoint", "--port"),
            (self.prefect, "Prefect's server", "--prefect-port"),
            (self.mlflow, "MLflow's UI", "--mlflow-port"),
        )
        for index, (port, title, option) in enumerate(listed):
            for other, its, _ in listed[:index]:
                if port == other:
                    raise ConfigError(f"{option} {port}: {its} has that port; give another")
            reason = port_refusal(LOOPBACK, port)
            if reason is not None:
                who = f", by {port_holder(port)}" if "in use" in reason else ""
                raise ConfigError(
                    f"port {port} for {title}: {reason}{who}; give another with {option}"
                )


@dataclass(frozen=True)
class Service:
    """One program and how it is asked."""

    name: str
    title: str
    address: str
    command: tuple[str, ...]
    probe: Probe
    environment: dict[str, str] = field(default_factory=dict)
    depends_on: str | None = None
    """The service that must answer before this one is started."""
    clean_up: Callable[[], None] | None = None
    """Tidies up what an earlier process of it left: before each start, after each end."""


def prefect_api_address(ports: Ports) -> str:
    """Address of Prefect's API."""
    return f"http://{LOOPBACK}:{ports.prefect}/api"


def list_services(settings: Settings, ports: Ports, model: str | None = None) -> list[Service]:
    """All four, in the order in which they are shown; the endpoint of ``model`` alone, if given."""
    return [
        _prefect_service(ports),
        _worker_service(settings, ports),
        _mlflow_service(ports),
        _endpoint_service(settings, ports, model),
    ]


def _python_module(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def _prefect_service(ports: Ports) -> Service:
    address = f"http://{LOOPBACK}:{ports.prefect}"
    return Service(
        PREFECT,
        "Prefect",
        address,
        _python_module(
            "prefect", "server", "start", "--host", LOOPBACK, "--port", str(ports.prefect)
        ),
        partial(probe_http, f"{address}/api/health"),
        {
            "PREFECT_UI_API_URL": prefect_api_address(ports),
            # Prefect lets any page in a browser call it; only its own may.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": (f"{address},http://localhost:{ports.prefect}"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
        },
    )


def _worker_service(settings: Settings, ports: Ports) -> Service:
    return Service(
        WORKER,
        "worker",
        f"http://{LOOPBACK}:{ports.prefect}/work-pools",
        _python_module(
            "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", POOL
        ),
        partial(probe_worker, f"{prefect_api_address(ports)}/work_pools/{POOL}/workers/filter"),
        {"PREFECT_API_URL": prefect_api_address(ports), "PREFECT_LOGGING_LEVEL": "INFO"},
        depends_on=PREFECT,
        clean_up=partial(crash_stuck_runs, settings, prefect_api_address(ports)),
    )


def _mlflow_service(ports: Ports) -> Service:
    address = f"http://{LOOPBACK}:{ports.mlflow}"
    return Service(
        MLFLOW,
        "MLflow",
        address,
        _python_module("components.publish.registry.registry_ui", str(ports.mlflow)),
        partial(probe_http, f"{address}/health"),
    )


def _endpoint_service(settings: Settings, ports: Ports, model: str | None) -> Service:
    address = f"http://{LOOPBACK}:{ports.endpoint}"
    return Service(
        ENDPOINT,
        "endpoint",
        f"{address}/v1",
        _python_module(
            "serving.gateway.endpoint_manager", str(ports.endpoint), *([model] if model else [])
        ),
        partial(probe_endpoint, f"{address}/readyz", settings),
    )


async def probe_http(address: str, client: httpx.AsyncClient, since: float) -> str | None:
    return "" if (await client.get(address)).is_success else None


async def probe_worker(address: str, client: httpx.AsyncClient, since: float) -> str | None:
    """A worker that has given a sign of life since it was started."""
    answer = await client.post(address, json={})
    if not answer.is_success:
        return None
    for worker in answer.json():
        seen = worker.get("last_heartbeat_time")
        if worker["name"] == POOL and seen and datetime.fromisoformat(seen).timestamp() > since:
            return f"pool {POOL}"
    return None


async def probe_endpoint(
    address: str, settings: Settings, client: httpx.AsyncClient, since: float
) -> str | None:
    """The keeper answers itself where no model does."""
    answer = await client.get(address)
    if answer.is_success:
        return read_served_model(settings)
    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
        return None
    error = answer.json()["error"]
    if error["code"] == "no_champion":
        return "no champion yet"
    return str(error["message"]) if error["code"] == "failed" else None


def read_served_model(settings: Settings) -> str:
    """What the endpoint's keeper says that it serves."""
    try:
        status = EndpointSwap(settings).read_status()
    except DataError as error:
        return str(error)
    return str(status.serving) if status is not None and status.serving is not None else ""
