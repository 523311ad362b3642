"""``modelmill serve``: choose a version, then become its server, in the foreground."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from components.core.errors import ConfigError
from components.core.process.ports import port_refusal
from components.core.settings import ENDPOINT_LIMITS_VARIABLE, Settings, export_variables
from components.publish.bento_folders import (
    bentos_folder,
    check_bento_files,
    choose_champion,
    find_newest_bento,
)
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.model_registry import CHAMPION, RegisteredVersion, list_versions
from serving.api.auth import check_host
from serving.api.limits import check_context, override_limits
from serving.engine.served_folder import BUNDLE_FOLDER, GRAPH_FILE, read_endpoint
from serving.gateway.foreground import exec_foreground


def serve_forever(
    settings: Settings,
    model: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    as_json: bool = False,
    limits: Mapping[str, object] | None = None,
) -> None:
    """Serve MODEL@ALIAS, MODEL/VERSION or, without one, the champion that moved last.

    Does not return.

    Args:
        settings: workspace whose registry and Bentos are read; its API key guards the endpoint.
        model: MODEL@ALIAS, MODEL/VERSION or MODEL; None takes the champion that moved last.
        host: address to listen on; beyond loopback it needs a key.
        port: port to listen on.
        as_json: announce the address as one JSON object.
        limits: limits of the endpoint that replace those of its Bento, by name.

    Raises:
        ConfigError: no such model, no Bento of it, a host without a key, a port in use, a limit
            out of its bounds or beyond the model.
        DataError: the Bento is damaged.
    """
    check_host(host, settings.api_key)
    entry = choose_version(settings, model) if model else require_champion(settings)
    folder = find_bento(settings, entry)
    _check_port(host, port)
    check_limits(folder, limits or {})
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    if as_json:
        announcement = {"model": entry.model, "version": str(entry.version), "address": address}
        sys.stdout.write(json.dumps({**announcement, "bento": str(folder)}) + "\n")
        sys.stdout.flush()
    else:
        key = "with MODELMILL_API_KEY" if settings.api_key else "from this machine, without a key"
        named = f"{entry.model} version {entry.version}"
        sys.stderr.write(f"serving {named} at {address} ({key}); Ctrl+C stops it\n")
        others = list_other_champions(settings, entry.model)
        if model is None and others:
            sys.stderr.write(
                f"{entry.model}'s champion moved last; `modelmill serve {others[0]}` serves "
                f"another ({', '.join(others)})\n"
            )
    if limits:
        export_variables({ENDPOINT_LIMITS_VARIABLE: json.dumps(dict(limits))})
    exec_foreground(folder, host, port, as_json=as_json)


def check_limits(folder: Path, overrides: Mapping[str, object]) -> None:
    """Check limits against those of a Bento and the model's cache, before a server starts.

    Args:
        folder: folder of the Bento.
        overrides: limits that replace the Bento's, by name.

    Raises:
        ConfigError: a value is out of its bounds, or the context is longer than the cache.
    """
    endpoint = read_endpoint(folder / "src")
    limits = override_limits(endpoint.limits, overrides)
    if "context" in overrides:
        import onnx

        graph = folder / "src" / BUNDLE_FOLDER / endpoint.form / GRAPH_FILE
        model = onnx.load(str(graph), load_external_data=False)
        held = {entry.key: entry.value for entry in model.metadata_props}
        check_context(limits, int(held["context"]))


def require_champion(settings: Settings) -> RegisteredVersion:
    """The champion that moved last.

    Raises:
        ConfigError: there is none.
    """
    entry = choose_champion(settings)
    if entry is None:
        raise ConfigError(f"no champion to serve yet: {describe_newest(settings)}")
    return entry


def list_other_champions(settings: Settings, model: str) -> list[str]:
    """The other models that have a champion."""
    models = {entry.model for entry in list_versions(settings) if CHAMPION in entry.aliases}
    return sorted(models - {model})


def choose_version(settings: Settings, model: str) -> RegisteredVersion:
    """The version that MODEL@ALIAS or MODEL/VERSION names; MODEL alone is its champion.

    Raises:
        ConfigError: there is none; names what there is or, of a model without a champion, what
            keeps its newest version back.
    """
    name, at, alias = model.partition("@")
    name, _, version = name.partition("/")
    known = list_versions(settings)
    of_model = [entry for entry in known if entry.model == name]
    for entry in of_model:
        wanted = str(entry.version) == version if version else (alias or CHAMPION) in entry.aliases
        if wanted and not (at and version):
            return entry
    if not known:
        raise ConfigError(f"{model}: no such model; none is registered yet, {MAKES_ONE}")
    if of_model and not version and alias in ("", CHAMPION):
        raise ConfigError(f"{model}: no champion to serve yet: {describe_newest(settings, name)}")
    if version:
        there = [f"{e.model}/{e.version}" for e in of_model or known]
    else:
        there = sorted(f"{e.model}@{alias}" for e in of_model or known for alias in e.aliases)
    missing = "no such model"
    if of_model:
        missing = f"{name} has no version {version}" if version else f"{name} has no such alias"
    raise ConfigError(f"{model}: {missing}; there is {', '.join(there) or 'none yet'}")


def find_bento(settings: Settings, entry: RegisteredVersion) -> Path:
    """The newest Bento that holds a version's bundle.

    Raises:
        ConfigError: there is none.
        DataError: a file of it is gone or has another size.
    """
    name = find_newest_bento(settings, entry)
    if name is not None:
        folder = bentos_folder(settings) / name
        check_bento_files(folder)
        return folder
    raise ConfigError(
        f"{entry.model} version {entry.version} is not packed; run the preset or file that made it "
        "again, which packs it"
    )


def _check_port(host: str, port: int) -> None:
    reason = port_refusal(host, port)
    if reason is not None:
        raise ConfigError(f"--port {port}: {reason}; give another --port")
