"""Adapters of ``modelmill serve --adapter``: found, held against the base, put into its graph.

The graph with adapters lies in a folder of the workspace as long as its server runs, and is served
in place of the Bento's.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import digest_file
from components.publish.registry.model_registry import BASE_TAG, RegisteredVersion
from serving.adapters.adapter_index import ADAPTERS_FILE, AdapterEntry, AdapterIndex
from serving.engine.served_folder import BUNDLE_FOLDER, GRAPH_FILE, read_endpoint
from serving.engine_program import HF_FORM
from serving.gateway.server_home import make_server_home

if TYPE_CHECKING:
    from components.export.onnx.adapter_files import ServedAdapter

ADAPTERS_FOLDER = "adapters"
"""Below the workspace; in it a folder for each server, called as its process id."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_BUNDLE_FILE = "bundle.json"


def parse_adapters(options: Sequence[str], model: str) -> dict[str, Path]:
    """Name -> folder of each ``NAME=FOLDER``.

    Args:
        options: as they were typed.
        model: name of the base, which no adapter may have.

    Raises:
        ConfigError: an option is none, a name is given twice or is the base's.
    """
    folders: dict[str, Path] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        if not equals or not folder:
            raise ConfigError(f"--adapter {option}: give NAME=FOLDER")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"--adapter {option}: a name has letters, digits and . _ -, 96 at most"
            )
        if name == model or name in folders:
            other = "the base's" if name == model else "another adapter's"
            raise ConfigError(f"--adapter {option}: {name} is {other} name; choose another")
        folders[name] = Path(folder).expanduser()
    return folders


def read_adapters(
    settings: Settings, entry: RegisteredVersion, folders: Mapping[str, Path]
) -> list[ServedAdapter]:
    """Read adapters and hold what they record of their base against a version.

    Args:
        settings: workspace that holds the version.
        entry: the base.
        folders: name -> folder.

    Raises:
        ConfigError: one is damaged, no plain LoRA, or of another base.
    """
    from components.export.onnx.adapter_files import read_adapter

    files = entry.files_folder(settings)
    adapters = [read_adapter(name, folder) for name, folder in folders.items()]
    for adapter in adapters:
        if not check_base(adapter, entry, files):
            sys.stderr.write(
                f"--adapter {adapter.name}: it does not record the weights of its base; that it is "
                f"{entry.model} version {entry.version} could be seen by shapes alone\n"
            )
    return adapters


def check_base(adapter: ServedAdapter, entry: RegisteredVersion, files: Path) -> bool:
    """Check that an adapter was trained on a version; False where it records too little to tell.

    Args:
        adapter: the adapter.
        entry: the version.
        files: files of the version.

    Raises:
        ConfigError: it was trained on another.
    """
    checkpoint = str(_read_bundle(files).get("checkpoint") or "")
    served = f"{entry.model} version {entry.version}"
    begins = f"--adapter {adapter.name} is of another base: it was trained on"
    if adapter.base_digest and checkpoint:
        if adapter.base_digest != checkpoint:
            raise ConfigError(
                f"{begins} the checkpoint {adapter.base_digest[:12]}, {served} is {checkpoint[:12]}"
            )
        return True
    recorded = Path(adapter.base_name)
    weights = sorted(recorded.glob("*.safetensors")) if adapter.base_name else []
    own = sorted((files / HF_FORM).glob("*.safetensors"))
    if weights and own:
        if [digest_file(path) for path in weights] != [digest_file(path) for path in own]:
            raise ConfigError(f"{begins} the weights in {recorded}, which {served} does not have")
        return True
    base = entry.tags.get(BASE_TAG, "")
    if adapter.base_name and base and Path(base).name.lower() != recorded.name.lower():
        raise ConfigError(f"{begins} {adapter.base_name}, {served} is made of {base}")
    return False


def build_adapted_graph(settings: Settings, bento: Path, adapters: Sequence[ServedAdapter]) -> Path:
    """Write a Bento's graph with adapters for the server that this process becomes.

    Args:
        settings: workspace, in which the folder is made.
        bento: folder of the Bento.
        adapters: in the order of their numbers.

    Returns:
        the folder, with the graph and its index; those of ended servers are deleted.

    Raises:
        ConfigError: a layer of an adapter is not in the graph, or of another size there.
        DataError: the graph cannot be read.
    """
    from components.export.onnx.adapter_graph import add_served_adapters
    from components.export.onnx.graph_builder import save_graph
    from components.export.quantize import read_onnx_graph

    endpoint = read_endpoint(bento / "src")
    graph = read_onnx_graph(bento / "src" / BUNDLE_FOLDER / endpoint.form / GRAPH_FILE)
    add_served_adapters(graph, adapters)
    folder = make_server_home(settings.home / ADAPTERS_FOLDER, os.getpid())
    save_graph(graph, folder / GRAPH_FILE)
    index = AdapterIndex(
        bundle=endpoint.bundle,
        form=endpoint.form,
        adapters=tuple(AdapterEntry(name=a.name, digest=a.digest) for a in adapters),
    )
    write_atomically(folder / ADAPTERS_FILE, index.model_dump_json(indent=1).encode())
    return folder


def _read_bundle(files: Path) -> dict[str, Any]:
    try:
        content = json.loads((files / _BUNDLE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}  # whoever reads it for more than a digest says so
    return content if isinstance(content, dict) else {}
