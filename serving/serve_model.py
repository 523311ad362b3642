"""``modelmill serve``: choose a version, then become its server, in the foreground."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.core.endpoint_settings import (
    ADAPTERS_VARIABLE,
    DRAIN_VARIABLE,
    ENDPOINT_LIMITS_VARIABLE,
)
from components.core.endpoint_settings import drain_seconds as read_drain_seconds
from components.core.environment import export_variables
from components.core.errors import ConfigError
from components.core.process.ports import port_refusal
from components.core.settings import Settings
from components.publish.bento_folders import (
    bentos_folder,
    check_bento_files,
    choose_champion,
    find_newest_bento,
)
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.model_registry import CHAMPION, RegisteredVersion, list_versions
from serving.adapters.adapter_build import build_adapted_graph, parse_adapters, read_adapters
from serving.api.auth import check_host
from serving.api.limits import check_context, override_limits
from serving.bento.bento_sources import list_outdated_sources
from serving.engine.served_folder import BUNDLE_FOLDER, GRAPH_FILE, read_endpoint
from serving.engine_program import HF_FORM, ONNX_FORMS, EngineName, EngineProgram
from serving.gateway.foreground import exec_foreground


@dataclass(frozen=True)
class BentoProgram:
    """A version's Bento, whose server computes with onnxruntime on processors."""

    folder: Path
    adapted: Path | None = None
    """Folder of its graph with adapters."""
    limits: Mapping[str, object] = field(default_factory=dict)
    """Limits of the endpoint that replace its own."""
    engine: str = "onnx"

    def exec_server(self, host: str, port: int, *, as_json: bool) -> None:
        """Replace this process by the Bento's server, in the foreground; does not return.

        Args:
            host: address to listen on.
            port: port to listen on.
            as_json: report a failure as one JSON object.
        """
        if self.adapted is not None:
            export_variables({ADAPTERS_VARIABLE: str(self.adapted)})
        if self.limits:
            export_variables({ENDPOINT_LIMITS_VARIABLE: json.dumps(dict(self.limits))})
        exec_foreground(self.folder, host, port, as_json=as_json)


def serve_forever(
    settings: Settings,
    model: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    engine: EngineName = "auto",
    adapters: Sequence[str] = (),
    as_json: bool = False,
    limits: Mapping[str, object] | None = None,
    drain_seconds: float | None = None,
) -> None:
    """Serve MODEL@ALIAS, MODEL/VERSION or, without one, the champion that moved last.

    Does not return.

    Args:
        settings: workspace whose registry and Bentos are read; its API key guards the endpoint.
        model: MODEL@ALIAS, MODEL/VERSION or MODEL; None takes the champion that moved last.
        host: address to listen on; beyond loopback it needs a key.
        port: port to listen on.
        engine: program that computes the answers; auto is onnx.
        adapters: ``NAME=FOLDER`` of each adapter that is served beside the model.
        as_json: announce the address as one JSON object.
        limits: limits of the endpoint that replace those of its Bento, by name.
        drain_seconds: longest that answers in progress go on after SIGTERM.

    Raises:
        ConfigError: no such model, no Bento of it, a host without a key, a port in use, an
            adapter of another base, a limit out of its bounds or beyond the model, or what the
            engine needs is missing.
        DataError: the Bento is damaged.
    """
    check_host(host, settings.api_key)
    if drain_seconds is not None:
        export_variables({DRAIN_VARIABLE: str(drain_seconds)})
    read_drain_seconds()  # a value that makes no sense is refused before anything is found
    entry = choose_version(settings, model) if model else require_champion(settings)
    folders = parse_adapters(adapters, entry.model)
    program = find_program(settings, entry, engine, adapters=folders, limits=limits or {})
    _check_port(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    if as_json:
        _announce_json(entry, program, address)
    else:
        _announce_text(entry, program, address, list(folders), settings.api_key)
        if model is None:
            _name_other_champions(settings, entry.model)
    if isinstance(program, BentoProgram):
        _name_outdated_code(program.folder)
    program.exec_server(host, port, as_json=as_json)


def _announce_json(entry: RegisteredVersion, program: EngineProgram, address: str) -> None:
    announcement = {"model": entry.model, "version": str(entry.version), "address": address}
    served = {"bento" if program.engine == "onnx" else "folder": str(program.folder)}
    line = json.dumps({**announcement, "engine": program.engine, **served})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _announce_text(
    entry: RegisteredVersion,
    program: EngineProgram,
    address: str,
    adapters: Sequence[str],
    api_key: str | None,
) -> None:
    access = "with MODELMILL_API_KEY" if api_key else "from this machine, without a key"
    named = f"{entry.model} version {entry.version}"
    if program.engine != "onnx":
        named += f" by {program.engine}"
    if adapters:
        named += f" with the adapters {', '.join(adapters)}"
    sys.stderr.write(f"serving {named} at {address} ({access}); Ctrl+C stops it\n")


def _name_other_champions(settings: Settings, served: str) -> None:
    """Say which other models have a champion, and how to serve them."""
    others = list_other_champions(settings, served)
    if others:
        sys.stderr.write(
            f"{served}'s champion moved last; `modelmill serve {others[0]}` serves "
            f"another ({', '.join(others)})\n"
        )


def _name_outdated_code(bento: Path) -> None:
    """Say that a Bento answers by other code than the checkout's, and how it is packed again."""
    outdated = list_outdated_sources(bento / "src")
    if outdated:
        sys.stderr.write(
            f"its Bento {bento.name} answers by the code it was packed with, which is not that of "
            f"this checkout ({len(outdated)} files, {outdated[0]} first): the `modelmill run` that "
            "made it, with --until package, packs it again\n"
        )


def find_program(
    settings: Settings,
    entry: RegisteredVersion,
    engine: EngineName = "auto",
    *,
    adapters: Mapping[str, Path] | None = None,
    limits: Mapping[str, object] | None = None,
) -> EngineProgram:
    """The engine's program for a version; all that can be refused before a start is refused.

    Args:
        settings: workspace that holds the version.
        entry: the version to serve.
        engine: auto is onnx.
        adapters: name -> folder of each adapter beside it.
        limits: limits of the endpoint that replace those of the Bento, or of vLLM, by name.

    Raises:
        ConfigError: what the engine needs is missing, it cannot run the version's forms, an
            adapter is of another base, or a limit is out of its bounds or beyond the model.
        DataError: the Bento is damaged.
    """
    if engine == "vllm":
        from serving.vllm.vllm_program import find_vllm_program

        program = find_vllm_program(settings, entry).override_limits(limits or {})
        return program.add_adapters(read_adapters(settings, entry, adapters or {}))
    bento = find_bento(settings, entry)
    check_limits(bento, limits or {})
    adapted = None
    if adapters:
        read = read_adapters(settings, entry, adapters)
        adapted = build_adapted_graph(settings, bento, read)
    return BentoProgram(bento, adapted, limits or {})


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
    forms = sorted(path.parent.name for path in entry.files_folder(settings).glob("*/parity.json"))
    if forms and not set(forms) & set(ONNX_FORMS):
        other = f"; --engine vllm serves {HF_FORM} on a GPU" if HF_FORM in forms else ""
        raise ConfigError(
            f"{entry.model} version {entry.version} holds {', '.join(forms)} and none of "
            f"{', '.join(ONNX_FORMS)}, which the engine onnx runs{other}"
        )
    raise ConfigError(
        f"{entry.model} version {entry.version} is not packed; run the preset or file that made it "
        "again, which packs it"
    )


def _check_port(host: str, port: int) -> None:
    reason = port_refusal(host, port)
    if reason is not None:
        raise ConfigError(f"--port {port}: {reason}; give another --port")
