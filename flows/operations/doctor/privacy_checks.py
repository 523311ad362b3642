"""Checks of telemetry switches, listening addresses and file permissions."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import TELEMETRY_OFF, Settings, telemetry_switches
from components.publish.dataset.dataset_pins import config_path
from flows.operations.doctor.finding import (
    Finding,
    list_first,
    or_report_ok,
    report_broken,
    report_ok,
    report_warning,
    shell_path,
)
from serving.bento.bento_sources import ROOT

_SERVERS = ("prefect", "mlflow", "bentoml", "uvicorn")
_ANALYTICS_ON = re.compile(
    r"(?im)^[ \t]*[\w.]*analytics(?:_enabled)?\s*=\s*[\"']?(true|1|yes|on)\b"
)
_OTHERS_WRITE = 0o002


def check_telemetry(settings: Settings) -> Iterator[Finding]:
    """Check the telemetry switches of this process, of running servers and in settings files."""
    yield from or_report_ok(
        _find_telemetry(settings), "telemetry", f"all {len(TELEMETRY_OFF)} switches are off"
    )


def _find_telemetry(settings: Settings) -> Iterator[Finding]:
    unset = [name for name, is_off in telemetry_switches().items() if not is_off]
    if unset:
        yield report_broken(
            "telemetry", f"not switched off: {list_first(unset)}", f"unset {' '.join(unset)}"
        )
    for process in find_workspace_processes(settings):
        if not _is_server(process) or _is_modelmill_command(process) or not process.environment:
            continue
        missing_switches = [
            name
            for name, value in TELEMETRY_OFF.items()
            if process.environment.get(name, "").lower() != value.lower()
        ]
        if missing_switches:
            which = f"process {process.pid} ({process.short_command})"
            what = f"{which} was started without {list_first(missing_switches)}"
            yield report_warning(
                "telemetry", what, f"kill {process.pid}; then start it with modelmill"
            )
    for path in _settings_files(settings):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        match = _ANALYTICS_ON.search(text)
        if match:
            line = text.count("\n", 0, match.start(1)) + 1
            place = f"{shell_path(path)}:{line}"
            what = f"{place} turns analytics on for programs that modelmill does not start"
            yield report_warning("telemetry", what, f"sed -i '{line}d' {shell_path(path)}")


def _settings_files(settings: Settings) -> Iterator[Path]:
    """Settings files of Prefect and DVC; MLflow and BentoML read the environment only."""
    yield settings.prefect / "profiles.toml"
    yield from (ROOT / name for name in ("prefect.toml", ".env", "pyproject.toml"))
    dvc = config_path(settings.datasets)
    yield from (dvc, dvc.with_name("config.local"))
    yield Path.home() / ".config" / "dvc" / "config"


def check_access(settings: Settings) -> Iterator[Finding]:
    """Check servers that listen beyond loopback: only the endpoint can require a key."""
    yield from or_report_ok(
        _find_open_servers(settings), "access", "servers listen on loopback only"
    )


def _find_open_servers(settings: Settings) -> Iterator[Finding]:
    servers = {
        process.pid: process
        for process in find_workspace_processes(settings)
        if _is_server(process)
    }
    for pid, host, port in _listening_sockets():
        process = servers.get(pid)
        if process is None or ipaddress.ip_address(host).is_loopback:
            continue
        where = f"process {pid} ({process.short_command}) listens on {host}:{port}"
        if "bentoml" not in " ".join(process.command):
            yield report_warning("access", f"{where} and requires no key", f"kill {pid}")
        elif process.environment.get("MODELMILL_API_KEY"):
            yield report_ok("access", f"{where} and requires a key")
        else:
            fix = f"kill {pid}; MODELMILL_API_KEY=$(openssl rand -hex 24) modelmill serve"
            yield report_broken("access", f"{where} without a key", f"{fix} --host {host}")


def _listening_sockets() -> Iterator[tuple[int, str, int]]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
            yield connection.pid, connection.laddr.ip, connection.laddr.port


def _is_server(process: WorkspaceProcess) -> bool:
    return any(name in word for name in _SERVERS for word in process.command)


def _is_modelmill_command(process: WorkspaceProcess) -> bool:
    """True for commands of ours: they set the switches after their start, unseen from outside."""
    names = {word.rpartition("/")[2] for word in process.command}
    return bool(names & {"flows.cli.main", "modelmill"})


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """Check that this user can write the workspace, and other users cannot."""
    yield from or_report_ok(
        _find_wrong_permissions(settings), "permissions", shell_path(settings.home)
    )


def _find_wrong_permissions(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield report_ok("permissions", f"{shell_path(home)} does not exist yet")
        return
    places = [home, *(path for path in home.iterdir() if path.is_dir())]
    inaccessible = [
        shell_path(path) for path in places if not os.access(path, os.R_OK | os.W_OK | os.X_OK)
    ]
    if inaccessible:
        fix = f"sudo chown -R $(id -u) {shell_path(home)} && chmod -R u+rwX {shell_path(home)}"
        yield report_broken("permissions", f"not writable for you: {list_first(inaccessible)}", fix)
    owner = os.getuid()
    foreign = [shell_path(path) for path in places if path.stat().st_uid != owner]
    if foreign and not inaccessible:
        fix = f"sudo chown -R $(id -u) {shell_path(home)}"
        yield report_warning("permissions", f"belongs to another user: {list_first(foreign)}", fix)
    world_writable = [shell_path(path) for path in places if path.stat().st_mode & _OTHERS_WRITE]
    if world_writable:
        fix = f"chmod -R o-w {shell_path(home)}"
        yield report_warning(
            "permissions", f"writable for every user: {list_first(world_writable)}", fix
        )
