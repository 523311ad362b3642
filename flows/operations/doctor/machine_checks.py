"""Checks of the machine: ports, disk, memory, clock, GPU."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from components.core.io.trash import disk_size
from components.core.process.child_programs import ChildTimeout, run_program
from components.core.process.workspace_processes import find_workspace_processes
from components.core.settings import Settings
from components.core.store.lineage_graph import ArtifactGraph
from components.publish.registry.model_registry import list_versions
from flows.operations.doctor.finding import (
    Finding,
    or_report_ok,
    report_broken,
    report_info,
    report_ok,
    report_warning,
)
from flows.runner.progress_display import format_bytes
from flows.runner.run_records import read_records

PORTS = {4200: "the Prefect server", 5000: "the MLflow UI", 3000: "the endpoint"}
MIN_DISK_BYTES, LOW_DISK_BYTES = 0.5e9, 5e9
"""Free space below which a check is broken or warns, where no run tells how much is needed."""
LOW_MEMORY_BYTES = 1e9
_CLOCK_TOLERANCE_SECONDS = 120.0
"""More than clocks of one network differ by, less than what matters for retention in days."""
_DATASET_COPIES = 2  # DVC's cache and its remote; the folder is links
_GPU_TIMEOUT_SECONDS = 2.0


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Check that the ports of ``up`` and ``serve`` are free, or used by this workspace."""
    yield from check_listed_ports(settings, PORTS)


def check_listed_ports(settings: Settings, purposes: dict[int, str]) -> Iterator[Finding]:
    """Check ports, given with the purpose of each."""
    owners = find_listeners()
    own_processes = {process.pid: process for process in find_workspace_processes(settings)}
    for port, purpose in purposes.items():
        if port not in owners:
            yield report_ok("ports", f"{port} ({purpose}) is free")
            continue
        pid = owners[port]
        if pid in own_processes:
            yield report_ok("ports", f"{port}: {purpose} of this workspace (process {pid})")
        else:
            who = _process_name(pid) if pid else "a process of another user"
            fix = f"kill {pid}" if pid else f"sudo ss -ltnp 'sport = :{port}'"
            other = f"; or `modelmill serve --port {port + 1}`" if port == 3000 else ""
            yield report_warning("ports", f"{port}, for {purpose}, is taken by {who}", fix + other)


def find_listeners() -> dict[int, int | None]:
    """Port -> listening process on this machine; None if the process belongs to another user."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return {port: None for port in PORTS if _accepts_connection(port)}
    listeners_by_port: dict[int, int | None] = {}
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            listeners_by_port.setdefault(connection.laddr.port, connection.pid)
    return listeners_by_port


def _accepts_connection(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _process_name(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Compare the free space with what another run of the last one's size writes."""
    existing = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    need = measure_last_run(settings)
    what = f"{format_bytes(free)} free"
    if need:
        what += f"; a run of the last one's size writes up to {format_bytes(need)}"
    fix = "modelmill gc --dry-run"
    if free < max(need, MIN_DISK_BYTES):
        yield report_broken("disk", what, fix)
    elif free < max(2 * need, LOW_DISK_BYTES):
        yield report_warning("disk", what, fix)
    else:
        yield report_ok("disk", what)


def measure_last_run(settings: Settings) -> int:
    """Bytes that the newest completed run wrote: artifacts, version, Bento, dataset."""
    completed = (r for r in read_records(settings.runs) if r["state"] == "completed" and r["steps"])
    last = next(completed, None)
    if last is None:
        return 0
    graph = ArtifactGraph.read(settings.store)
    versions = {entry.uri: entry for entry in list_versions(settings)}
    total = 0
    for name in {str(step["artifact"]) for step in last["steps"]}:
        if name in versions:
            total += disk_size([versions[name].files_folder(settings)])
        elif Path(name).name in graph.nodes:
            total += graph.nodes[Path(name).name].bytes
        elif name.startswith("../"):
            total += disk_size([settings.store / name])
        else:
            total += _DATASET_COPIES * disk_size([settings.datasets / Path(name).name])
    return total


def check_memory(settings: Settings) -> Iterator[Finding]:
    """Compare the available memory with the least that a stage needs."""
    memory = psutil.virtual_memory()
    what = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} available"
    if memory.available < LOW_MEMORY_BYTES:
        yield report_warning("memory", what, "ps aux --sort=-rss | head")
    else:
        yield report_ok("memory", what)


def check_clock(settings: Settings) -> Iterator[Finding]:
    """Check for runs and artifacts of the future: they falsify schedules, retention and order."""
    yield from or_report_ok(
        _find_future_entries(settings),
        "clock",
        datetime.now().astimezone().isoformat("T", "seconds"),
    )


def _find_future_entries(settings: Settings) -> Iterator[Finding]:
    now = time.time()
    ahead = [
        node.key[:12]
        for node in ArtifactGraph.read(settings.store).nodes.values()
        if node.made_at > now + _CLOCK_TOLERANCE_SECONDS
    ]
    ahead += [
        str(record["run"])
        for record in read_records(settings.runs)
        if datetime.fromisoformat(record["started"]).timestamp() > now + _CLOCK_TOLERANCE_SECONDS
    ]
    if ahead:
        yield report_warning(
            "clock",
            f"{len(ahead)} runs or artifacts lie in the future ({ahead[0]}): the clock went back",
            "timedatectl set-ntp true",
        )


def check_accelerator(settings: Settings) -> Iterator[Finding]:
    """Report GPUs and TensorRT for information: no preset requires them."""
    yield report_info(
        "accelerator", _describe_gpus() or "no NVIDIA GPU; everything runs on the CPU"
    )
    installed = [
        f"{name} {version}"
        for name in ("tensorrt", "tensorrt-rtx")
        if (version := _installed_version(name))
    ]
    yield report_info("accelerator", ", ".join(installed) or "no TensorRT: engines are not built")


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe_gpus() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        ended = run_program(command, seconds=_GPU_TIMEOUT_SECONDS)
    except (OSError, ChildTimeout):
        return "nvidia-smi does not answer"
    return "; ".join(ended.output.strip().splitlines()) if ended.exit_code == 0 else ""
