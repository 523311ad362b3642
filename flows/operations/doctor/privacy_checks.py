"""That nothing reports home, and that nobody else gets in."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import TELEMETRY_OFF, Settings, telemetry_switches
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
    """Every switch, here and in the living servers; files that say otherwise."""
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
            what = f"process {process.pid} ({process.short_command}) was started without {list_first(missing_switches)}"
            yield report_warning(
                "telemetry", what, f"kill {process.pid}; then start it with modelmill"
            )
    for path in _settings_files(settings):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        match = _ANALYTICS_ON.search(text)
        if match:
            line = text.count("\n", 0, match.start(1)) + 1
            what = f"{shell_path(path)}:{line} turns analytics on for what modelmill does not start"
            yield report_warning("telemetry", what, f"sed -i '{line}d' {shell_path(path)}")


def _settings_files(settings: Settings) -> Iterator[Path]:
    """Where Prefect and DVC look besides the environment; MLflow and BentoML look nowhere else."""
    yield settings.prefect / "profiles.toml"
    yield from (ROOT / name for name in ("prefect.toml", ".env", "pyproject.toml"))
    yield from (settings.datasets / ".dvc" / name for name in ("config", "config.local"))
    yield Path.home() / ".config" / "dvc" / "config"


def check_access(settings: Settings) -> Iterator[Finding]:
    """Servers that listen beyond loopback: the endpoint asks for a key, the other two do not."""
    yield from or_report_ok(
        _find_open_servers(settings), "access", "servers listen on loopback alone"
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
            yield report_warning("access", f"{where} and asks for no key", f"kill {pid}")
        elif process.environment.get("MODELMILL_API_KEY"):
            yield report_ok("access", f"{where} and asks for a key")
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
    """A command of ours: it sets the switches itself, which its first environment does not show."""
    return any(word in ("flows.cli.main", "modelmill") for word in map(_last, process.command))


def _last(word: str) -> str:
    return word.rpartition("/")[2]


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """That this user may write the workspace, and strangers may not."""
    yield from or_report_ok(
        _find_wrong_permissions(settings), "permissions", shell_path(settings.home)
    )


def _find_wrong_permissions(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield report_ok("permissions", f"{shell_path(home)} is not made yet")
        return
    places = [home, *(path for path in home.iterdir() if path.is_dir())]
    inaccessible = [
        shell_path(path) for path in places if not os.access(path, os.R_OK | os.W_OK | os.X_OK)
    ]
    if inaccessible:
        fix = f"sudo chown -R $(id -u) {shell_path(home)} && chmod -R u+rwX {shell_path(home)}"
        yield report_broken(
            "permissions", f"not to be written by you: {list_first(inaccessible)}", fix
        )
    owner = os.getuid()
    foreign = [shell_path(path) for path in places if path.stat().st_uid != owner]
    if foreign and not inaccessible:
        fix = f"sudo chown -R $(id -u) {shell_path(home)}"
        yield report_warning("permissions", f"belongs to another user: {list_first(foreign)}", fix)
    world_writable = [shell_path(path) for path in places if path.stat().st_mode & _OTHERS_WRITE]
    if world_writable:
        fix = f"chmod -R o-w {shell_path(home)}"
        yield report_warning(
            "permissions", f"every user may write {list_first(world_writable)}", fix
        )
