"""Services of ``modelmill up``: command, environment and health probe of each."""

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
"""Health probe, called with a client and the service's start time (seconds since 1970): returns a
note for the user (may be empty), or None while the service does not answer. May raise
``httpx.HTTPError``."""


@dataclass(frozen=True)
class Ports:
    """Ports on loopback where the services listen."""

    endpoint: int = 3000
    prefect: int = 4200
    mlflow: int = 5000

    def check(self) -> None:
        """Check that all ports are free.

        Raises:
            ConfigError: a port is taken or given twice; names the option and the process.
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
    """Program to run, with the probe that tells whether it answers."""

    name: str
    title: str
    address: str
    command: tuple[str, ...]
    probe: Probe
    environment: dict[str, str] = field(default_factory=dict)
    depends_on: str | None = None
    """Name of the service that must answer before this one is started."""
    clean_up: Callable[[], None] | None = None
    """Cleans up what an earlier process of the service left: before each start, after each end."""


def prefect_api_address(ports: Ports) -> str:
    """Address of Prefect's API."""
    return f"http://{LOOPBACK}:{ports.prefect}/api"


def list_services(settings: Settings, ports: Ports, model: str | None = None) -> list[Service]:
    """All services of a platform, in the order in which they are shown.

    Args:
        settings: workspace that the services work on.
        ports: where they listen.
        model: that the endpoint serves; None: the one whose champion moved last.
    """
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
            # By default Prefect accepts calls from any web page; only its own UI may call it.
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
    """Probe for a successful HTTP response.

    Args:
        address: URL to get.
        client: sends the request.
        since: not used.
    """
    return "" if (await client.get(address)).is_success else None


async def probe_worker(address: str, client: httpx.AsyncClient, since: float) -> str | None:
    """Probe for a heartbeat of the worker since its start.

    Args:
        address: URL of the filter for workers of the pool.
        client: sends the request.
        since: start of the worker, in seconds since 1970.
    """
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
    """Probe for a ready endpoint; its manager answers while there is no model.

    Args:
        address: URL of the readiness check.
        settings: workspace whose served model is named.
        client: sends the request.
        since: not used.
    """
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
    """Model version that the endpoint serves, by its manager's status; empty if none."""
    try:
        status = EndpointSwap(settings).read_status()
    except DataError as error:
        return str(error)
    return str(status.serving) if status is not None and status.serving is not None else ""
