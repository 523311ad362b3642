"""Digests of a component's code: editing a helper re-runs what uses it, a comment nothing.

A component's code is its module and every first-party module upstream of it (with their packages'
``__init__``), each as ``ast.unparse`` without docstrings and ``Field`` descriptions (``ast.dump``
differs between Python versions), and the major.minor versions of the third-party packages that
these import. The classes of its config count too, and those of the configs nested in it: a rule of
``select`` comes with the config alone.

Parsing a hundred modules and asking the environment for its distributions takes most of a second,
so both are cached in a file, by content: a module's digest by the sha256 of its source, the
distributions by what their folders look like. The cache cannot be stale, and a torn file
counts as none.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import grimp
from pydantic import BaseModel

from components.core.io.atomic_write import atomic_path
from components.core.log import get_logger
from components.core.store.artifact import canonical_json, digest_file, digest_value

PACKAGES = ("components", "models", "serving")
PLUMBING = frozenset(
    f"components.core.{name}"
    for name in (
        "store.store",
        "store.workdir",
        "io.atomic_write",
        "io.full_disk",
        "io.locks",
        "io.trash",
        "process.child_programs",
        "log",
        "errors",
        "environment",
        "settings",
        "endpoint_settings",
        "thread_settings",
        "workspace_layout",
        "tracking",
    )
)
"""Modules that run a stage without affecting its result; they share one version number, which goes
up with a change that does affect it."""
PLUMBING_VERSION = "1"
_METADATA = (".dist-info", ".egg-info")
log = get_logger(__name__)


class CodeIndex:
    """Code digests of components, from one import graph that is built at first use.

    ``memory`` is the cache file shared by processes; only ``save_memory`` writes it.
    """

    def __init__(self, packages: Sequence[str] = PACKAGES, memory: Path | None = None) -> None:
        self._packages = tuple(packages)
        self._modules: dict[str, str] = {}
        self._parts: dict[str, dict[str, str]] = {}
        self._path = memory
        self._learned = False

    def save_memory(self) -> None:
        """Write the cache for the next process, if anything is new."""
        if self._path is None or not self._learned:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path, suffix=f".{os.getpid()}.tmp") as temporary:
                temporary.write_bytes(canonical_json(self._memory))
        except OSError as error:  # a full disk: the next process parses again
            log.info("%s was not written: %s", self._path, error)
        self._learned = False

    @cached_property
    def _memory(self) -> dict[str, Any]:
        """``made_by`` (this module and interpreter), ``modules``, ``versions``."""
        made_by = digest_value([digest_file(Path(__file__)), sys.version])
        empty: dict[str, Any] = {"made_by": made_by, "modules": {}, "versions": {}}
        try:
            cached = json.loads(self._path.read_bytes()) if self._path else empty
        except (OSError, ValueError):
            return empty
        known = isinstance(cached, dict) and cached.get("made_by") == made_by
        return {**empty, **cached} if known else empty

    def digest_component(
        self, component: Callable[..., Any], config: BaseModel | None = None
    ) -> str:
        """One digest over ``code_parts(component, config)``."""
        return digest_value(self.code_parts(component, config))

    def code_parts(
        self, component: Callable[..., Any], config: BaseModel | None = None
    ) -> dict[str, str]:
        """Module -> digest of its tree, and third-party package -> ``major.minor``.

        A config's class outside the packages (a run's own selection in ``flows``) does not count,
        its bases inside them do: what it adds are fields, which are part of the key anyway.
        """
        starts = {component.__module__, *self._config_modules(config)}
        name = " ".join(sorted(starts))
        if name not in self._parts:
            self._parts[name] = self._collect(starts)
        return self._parts[name]

    def _config_modules(self, config: BaseModel | None) -> set[str]:
        modules = {kind.__module__ for kind in config_classes(config)}
        return {module for module in modules if module.partition(".")[0] in self._packages}

    def _collect(self, starts: Iterable[str]) -> dict[str, str]:
        parts = {"plumbing": PLUMBING_VERSION}
        external: set[str] = set()
        modules = {module for start in starts for module in self._closure(start, external)}
        for module in modules:
            parts[module] = self._module_digest(module)
        for package in external - set(sys.stdlib_module_names):
            parts[package] = self._version(package)
        return parts

    def _closure(self, start: str, external: set[str]) -> set[str]:
        """First-party modules that ``start`` imports, transitively, stopping at the plumbing."""
        if start not in self._graph.modules:  # a user's function by dotted name
            return {start}
        closure: set[str] = set()
        waiting = [start]
        while waiting:
            module = waiting.pop()
            if module in closure or module in PLUMBING:
                continue
            if module.partition(".")[0] not in self._packages:
                external.add(module)
                continue
            closure.add(module)
            waiting.extend(self._graph.find_modules_directly_imported_by(module))
            package = module.rpartition(".")[0]
            if package:
                waiting.append(package)
        return closure

    @cached_property
    def _graph(self) -> grimp.ImportGraph:
        return grimp.build_graph(
            *self._packages,
            include_external_packages=True,
            exclude_type_checking_imports=True,
            cache_dir=None,
        )

    def _version(self, package: str) -> str:
        """``major.minor`` of a package, cached for exactly these installed distributions."""
        versions = self._memory["versions"]
        if versions.get("installed") != self._installed:
            versions = self._memory["versions"] = {"installed": self._installed, "of": {}}
        if package not in versions["of"]:
            names = distribution_owners().get(package)
            version = importlib.metadata.version(sorted(names)[0]) if names else "absent"
            versions["of"][package] = ".".join(version.split(".")[:2])
            self._learned = True
        return str(versions["of"][package])

    @cached_property
    def _installed(self) -> str:
        return digest_installation()

    def _module_digest(self, module: str) -> str:
        if module not in self._modules:
            source = _source_file(module).read_bytes()
            name = f"{module} {hashlib.sha256(source).hexdigest()}"
            digests = self._memory["modules"]
            if name not in digests:
                self._forget(module)
                text = f"{module}\n{normalise_source(source.decode())}"
                digests[name] = hashlib.sha256(text.encode()).hexdigest()
                self._learned = True
            self._modules[module] = digests[name]
        return self._modules[module]

    def _forget(self, module: str) -> None:
        """Drop cached digests of a module's former sources, so that the file stays small."""
        digests = self._memory["modules"]
        for name in [name for name in digests if name.startswith(f"{module} ")]:
            del digests[name]


def config_classes(value: object) -> set[type]:
    """Classes, with their bases, of a config and of all that is nested in its values."""
    own: set[type] = set()
    inner: Iterable[object] = ()
    if isinstance(value, BaseModel):
        own.update(type(value).__mro__)
        inner = [getattr(value, name) for name in type(value).model_fields]
    elif is_dataclass(value) and not isinstance(value, type):
        own.update(type(value).__mro__)
        inner = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    return own.union(*map(config_classes, inner))


@lru_cache(maxsize=1)
def distribution_owners() -> dict[str, list[str]]:
    """Import package -> names of the distributions that provide it (0.2 s, called once)."""
    return dict(importlib.metadata.packages_distributions())


def digest_installation() -> str:
    """Digest of the installed distributions: every metadata file, its size and time."""
    files: list[tuple[str, int, int]] = []
    for place in sys.path:
        try:
            entries = [e for e in os.scandir(place or ".") if e.name.endswith(_METADATA)]
        except OSError:
            continue  # an archive, or not there
        for entry in sorted(entries, key=lambda e: e.name):
            for file in ("METADATA", "PKG-INFO", "RECORD", "top_level.txt"):
                try:
                    status = Path(entry.path, file).stat()
                except OSError:
                    continue
                files.append((f"{entry.path}/{file}", status.st_size, status.st_mtime_ns))
    return digest_value(files)


def _source_file(module: str) -> Path:
    """Source file of a module, found without importing the module itself."""
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(inspect.getfile(loaded))
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None
    assert spec.origin is not None
    stem = Path(spec.origin).parent.joinpath(*inner)
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


@cache  # a process may open many stores, and its sources stay as they are
def normalise_source(source: str) -> str:
    """``source`` without comments, layout, docstrings and ``Field`` descriptions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_docstring(s)] or [ast.Pass()]
        elif isinstance(node, ast.Call) and _called_name(node) == "Field":
            node.keywords = [k for k in node.keywords if k.arg != "description"]
    return ast.unparse(tree)


def _is_docstring(statement: ast.stmt) -> bool:
    """True for a docstring, of a definition or of an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _called_name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
