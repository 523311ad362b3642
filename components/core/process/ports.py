"""Ports of this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import socket

import psutil

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def refusal(host: str, port: int) -> str | None:
    """Why nobody can listen there, in a few words; None if one can."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return None


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may know: ``process 12 (python)``."""
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid:
                return f"process {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        return "another process"
    return "another process"
