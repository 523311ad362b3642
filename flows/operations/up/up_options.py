"""Options of ``modelmill up``, and the command line that passes them on."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.publish.registry.model_registry import list_versions
from flows.operations.up.services import Ports

START_TIMEOUT_SECONDS = 120.0
"""Seconds within which each service must answer."""


@dataclass(frozen=True)
class UpOptions:
    """Options of ``modelmill up``."""

    ports: Ports = field(default_factory=Ports)
    timeout_seconds: float = START_TIMEOUT_SECONDS
    model: str | None = None
    """Model that the endpoint serves; None: the one whose champion moved last."""

    def check(self, settings: Settings) -> None:
        """Check ports and model.

        Raises:
            ConfigError: a port is taken, or there is no such model.
        """
        self.ports.check()
        known = {entry.model for entry in list_versions(settings)}
        if self.model and known and self.model not in known:
            raise ConfigError(
                f"--model {self.model}: no such model; there is {', '.join(sorted(known))}"
            )


def detached_command(options: UpOptions) -> list[str]:
    """Command that runs ``modelmill up`` with the same options in the foreground."""
    arguments = ["--port", str(options.ports.endpoint)]
    arguments += ["--prefect-port", str(options.ports.prefect)]
    arguments += ["--mlflow-port", str(options.ports.mlflow)]
    arguments += ["--model", options.model] if options.model else []
    arguments += ["--wait", f"{options.timeout_seconds:g}"]
    return [sys.executable, "-m", "flows.cli.main", "up", *arguments]
