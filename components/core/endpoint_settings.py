"""Settings of an endpoint, which is served from a Bento where there may be no workspace."""

from __future__ import annotations

import json
import os
from pathlib import Path

from components.core.environment import http_address
from components.core.errors import ConfigError

ADAPTERS_VARIABLE = "MODELMILL_ADAPTERS"
"""Folder of a graph with adapters that is served in place of the Bento's; ``serve`` sets it."""
ENDPOINT_LIMITS_VARIABLE = "MODELMILL_ENDPOINT_LIMITS"
"""JSON object of an endpoint's limits that replace those of its Bento; ``serve`` sets it."""
DRAIN_VARIABLE = "MODELMILL_DRAIN_SECONDS"
DRAIN_SECONDS = 25.0
"""Of the 30 s that Kubernetes gives a pod to end, 5 s remain to end what is cut then."""
_MOST_DRAIN_SECONDS = 86400.0
"""As long as BentoML's supervisor waits for a worker."""
TRACE_RECEIVER_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own variable: address that receives spans by OTLP over HTTP."""


def endpoint_api_key() -> str | None:
    """Key of the endpoint, apart from ``load_settings``: a Bento is served without a workspace.

    White space at its ends is none of it: a file that holds a secret often ends with a line break.

    Raises:
        ConfigError: the variable holds white space alone, or a sign that no header can carry.
    """
    given = os.environ.get("MODELMILL_API_KEY") or None
    key = given and given.strip()
    if key == "":
        raise ConfigError("MODELMILL_API_KEY holds white space alone: give a key, or unset it")
    if key and not key.isprintable():
        raise ConfigError(
            "MODELMILL_API_KEY holds a line break, a control character or bytes that are no "
            "UTF-8, which no request could carry: give another key"
        )
    return key


def drain_seconds() -> float:
    """Longest that answers in progress go on once a server is told to end.

    Raises:
        ConfigError: the variable is no number of seconds.
    """
    text = os.environ.get(DRAIN_VARIABLE) or str(DRAIN_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_DRAIN_SECONDS:
        raise ConfigError(
            f"{DRAIN_VARIABLE}={text}: give seconds, from 0 to {_MOST_DRAIN_SECONDS:g}"
        )
    return seconds


def adapters_folder() -> Path | None:
    """Folder of the graph with adapters to serve, apart from ``load_settings``; None for none."""
    folder = os.environ.get(ADAPTERS_VARIABLE)
    return Path(folder) if folder else None


def endpoint_limit_overrides() -> dict[str, object]:
    """Limits of the endpoint that replace those of its Bento, apart from ``load_settings``.

    Raises:
        ConfigError: the variable is no JSON object.
    """
    text = os.environ.get(ENDPOINT_LIMITS_VARIABLE) or "{}"
    try:
        overrides = json.loads(text)
    except ValueError:
        overrides = None
    if not isinstance(overrides, dict):
        raise ConfigError(
            f'{ENDPOINT_LIMITS_VARIABLE}={text}: no JSON object; give one such as {{"slots": 8}}'
        )
    return overrides


def trace_receiver() -> str | None:
    """Address that receives an endpoint's spans; None where none is set.

    Raises:
        ConfigError: it is no http address.
    """
    return http_address(TRACE_RECEIVER_VARIABLE)


def shares_metrics() -> bool:
    """The processes of this server share a folder of prometheus_client's files."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def bentoml_home() -> Path:
    """BentoML's home as its variable says, or its default."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser().resolve()
