"""Variables of the environment: read, checked, set for packages, handed to child processes."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from components.core.errors import ConfigError


def http_address(name: str, path: str = "") -> str | None:
    """HTTP address in a variable; None where it is not set.

    Args:
        name: name of the variable.
        path: usual path of such an address, for the message.

    Raises:
        ConfigError: it is no http address.
    """
    address = os.environ.get(name)
    if not address:
        return None
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, a bracket that does not close
        valid = False
    if not valid:
        host = address.rpartition("://")[2].partition("/")[0] or "127.0.0.1"
        likely = f"http://{host}{path}"
        raise ConfigError(f"{name}={address}: not an address; give all of it, such as {likely}")
    return address


def environment_variable(name: str) -> str | None:
    """Value of a variable that a config references as ``${NAME}``; None where it is not set."""
    return os.environ.get(name)


def export_variables(values: dict[str, str]) -> None:
    """Set variables that packages read from the environment when they are imported."""
    os.environ.update(values)


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """Environment of a child process: this process's own with ``extra`` on top."""
    return {**os.environ, **extra}
