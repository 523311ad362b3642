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
from flows.operations.doctor.finding import Finding, broken, first, near, ok, or_ok, warning
from serving.bento.bento_sources import ROOT

_SERVERS = ("prefect", "mlflow", "bentoml", "uvicorn")
_ON = re.compile(r"(?im)^[ \t]*[\w.]*analytics(?:_enabled)?\s*=\s*[\"']?(true|1|yes|on)\b")
_OTHERS_WRITE = 0o002


def check_telemetry(settings: Settings) -> Iterator[Finding]:
    """Every switch, here and in the living servers; files that say otherwise."""
    yield from or_ok(
        _telemetry(settings), "telemetry", f"all {len(TELEMETRY_OFF)} switches are off"
    )


def _telemetry(settings: Settings) -> Iterator[Finding]:
    unset = [name for name, there in telemetry_switches().items() if not there]
    if unset:
        yield broken("telemetry", f"not switched off: {first(unset)}", f"unset {' '.join(unset)}")
    for one in find_workspace_processes(settings):
        if not _is_server(one) or _is_own(one) or not one.environment:
            continue
        open_ = [
            name
            for name, value in TELEMETRY_OFF.items()
            if one.environment.get(name, "").lower() != value.lower()
        ]
        if open_:
            what = f"process {one.pid} ({one.short_command}) was started without {first(open_)}"
            yield warning("telemetry", what, f"kill {one.pid}; then start it with modelmill")
    for path in _settings_files(settings):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        found = _ON.search(text)
        if found:
            line = text.count("\n", 0, found.start(1)) + 1
            what = f"{near(path)}:{line} turns analytics on for what modelmill does not start"
            yield warning("telemetry", what, f"sed -i '{line}d' {near(path)}")


def _settings_files(settings: Settings) -> Iterator[Path]:
    """Where Prefect and DVC look besides the environment; MLflow and BentoML look nowhere else."""
    yield settings.prefect / "profiles.toml"
    yield from (ROOT / name for name in ("prefect.toml", ".env", "pyproject.toml"))
    yield from (settings.datasets / ".dvc" / name for name in ("config", "config.local"))
    yield Path.home() / ".config" / "dvc" / "config"


def check_access(settings: Settings) -> Iterator[Finding]:
    """Servers that listen beyond loopback: the endpoint asks for a key, the other two do not."""
    yield from or_ok(_access(settings), "access", "servers listen on loopback alone")


def _access(settings: Settings) -> Iterator[Finding]:
    servers = {one.pid: one for one in find_workspace_processes(settings) if _is_server(one)}
    for pid, host, port in _listening():
        one = servers.get(pid)
        if one is None or ipaddress.ip_address(host).is_loopback:
            continue
        where = f"process {pid} ({one.short_command}) listens on {host}:{port}"
        if "bentoml" not in " ".join(one.command):
            yield warning("access", f"{where} and asks for no key", f"kill {pid}")
        elif one.environment.get("MODELMILL_API_KEY"):
            yield ok("access", f"{where} and asks for a key")
        else:
            mend = f"kill {pid}; MODELMILL_API_KEY=$(openssl rand -hex 24) modelmill serve"
            yield broken("access", f"{where} without a key", f"{mend} --host {host}")


def _listening() -> Iterator[tuple[int, str, int]]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
            yield connection.pid, connection.laddr.ip, connection.laddr.port


def _is_server(one: WorkspaceProcess) -> bool:
    return any(name in word for name in _SERVERS for word in one.command)


def _is_own(one: WorkspaceProcess) -> bool:
    """A command of ours: it sets the switches itself, which its first environment does not show."""
    return any(word in ("flows.cli.main", "modelmill") for word in map(_last, one.command))


def _last(word: str) -> str:
    return word.rpartition("/")[2]


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """That this user may write the workspace, and strangers may not."""
    yield from or_ok(_permissions(settings), "permissions", near(settings.home))


def _permissions(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield ok("permissions", f"{near(home)} is not made yet")
        return
    places = [home, *(path for path in home.iterdir() if path.is_dir())]
    shut = [near(path) for path in places if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]
    if shut:
        mend = f"sudo chown -R $(id -u) {near(home)} && chmod -R u+rwX {near(home)}"
        yield broken("permissions", f"not to be written by you: {first(shut)}", mend)
    owner = os.getuid()
    strange = [near(path) for path in places if path.stat().st_uid != owner]
    if strange and not shut:
        mend = f"sudo chown -R $(id -u) {near(home)}"
        yield warning("permissions", f"belongs to another user: {first(strange)}", mend)
    loose = [near(path) for path in places if path.stat().st_mode & _OTHERS_WRITE]
    if loose:
        mend = f"chmod -R o-w {near(home)}"
        yield warning("permissions", f"every user may write {first(loose)}", mend)
