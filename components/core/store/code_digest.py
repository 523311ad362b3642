"""Digests of code, so that editing a helper re-runs what uses it and editing a comment nothing.

A component's code is its module and every first-party module upstream of it (with their packages'
``__init__``), each as ``ast.unparse`` without docstrings and ``Field`` descriptions (``ast.dump``
differs between Python versions), and the major.minor versions of the third-party packages that
these import.

Parsing a hundred modules and asking the environment for its distributions takes most of a second,
so both are remembered in a file, by content: a module's digest by the sha256 of its source, the
distributions by what their folders look like. A stale answer cannot be given, a torn file counts
as none.
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
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import grimp

from components.core.io.atomic_write import atomic_path
from components.core.log import get_logger
from components.core.store.artifact import canonical, digest_file, digest_value

PACKAGES = ("components", "models", "serving")
PLUMBING = frozenset(
    f"components.core.{name}"
    for name in (
        "store.store",
        "store.workdir",
        "io.atomic_write",
        "io.locks",
        "log",
        "errors",
        "settings",
        "tracking",
    )
)
"""Modules that carry a stage without shaping what it makes: they share one version number."""
PLUMBING_VERSION = "1"
_METADATA = (".dist-info", ".egg-info")
log = get_logger(__name__)


def component_name(component: Callable[..., Any]) -> str:
    """Dotted name of a component: ``components.clean.quality.score.score_quality``."""
    return f"{component.__module__}.{component.__qualname__}"


class CodeIndex:
    """Code digests of components, from one import graph built at first use.

    ``memory`` is the file that remembers between processes; only ``keep`` writes it.
    """

    def __init__(self, packages: Sequence[str] = PACKAGES, memory: Path | None = None) -> None:
        self._packages = tuple(packages)
        self._modules: dict[str, str] = {}
        self._parts: dict[str, dict[str, str]] = {}
        self._path = memory
        self._learned = False

    def keep(self) -> None:
        """Write down what was parsed, for the next process; nothing where nothing is new."""
        if self._path is None or not self._learned:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path, suffix=f".{os.getpid()}.tmp") as temporary:
                temporary.write_bytes(canonical(self._memory))
        except OSError as error:  # a full disk: the next process parses again
            log.info("%s was not written: %s", self._path, error)
        self._learned = False

    @cached_property
    def _memory(self) -> dict[str, Any]:
        """``made_by`` (this module and interpreter), ``modules``, ``versions``."""
        made_by = digest_value([digest_file(Path(__file__)), sys.version])
        empty: dict[str, Any] = {"made_by": made_by, "modules": {}, "versions": {}}
        try:
            kept = json.loads(self._path.read_bytes()) if self._path else empty
        except (OSError, ValueError):
            return empty
        known = isinstance(kept, dict) and kept.get("made_by") == made_by
        return {**empty, **kept} if known else empty

    def digest(self, component: Callable[..., Any]) -> str:
        """One digest over ``parts(component)``."""
        return digest_value(self.parts(component))

    def parts(self, component: Callable[..., Any]) -> dict[str, str]:
        """Module -> digest of its tree, and third-party package -> ``major.minor``."""
        name = component.__module__
        if name not in self._parts:
            self._parts[name] = self._collect(name)
        return self._parts[name]

    def _collect(self, name: str) -> dict[str, str]:
        parts = {"plumbing": PLUMBING_VERSION}
        external: set[str] = set()
        for module in self._closure(name, external):
            parts[module] = self._module_digest(module)
        for package in external - set(sys.stdlib_module_names):
            parts[package] = self._version(package)
        return parts

    def _closure(self, start: str, external: set[str]) -> set[str]:
        """First-party modules that ``start`` rests on, not looking behind the plumbing."""
        if start not in self._graph.modules:  # a user's function by dotted name
            return {start}
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            module = waiting.pop()
            if module in seen or module in PLUMBING:
                continue
            if module.partition(".")[0] not in self._packages:
                external.add(module)
                continue
            seen.add(module)
            waiting.extend(self._graph.find_modules_directly_imported_by(module))
            package = module.rpartition(".")[0]
            if package:
                waiting.append(package)
        return seen

    @cached_property
    def _graph(self) -> grimp.ImportGraph:
        return grimp.build_graph(
            *self._packages,
            include_external_packages=True,
            exclude_type_checking_imports=True,
            cache_dir=None,
        )

    def _version(self, package: str) -> str:
        """``major.minor``, as remembered for exactly these installed distributions."""
        kept = self._memory["versions"]
        if kept.get("installed") != self._installed:
            kept = self._memory["versions"] = {"installed": self._installed, "of": {}}
        if package not in kept["of"]:
            names = owners().get(package)
            version = importlib.metadata.version(sorted(names)[0]) if names else "absent"
            kept["of"][package] = ".".join(version.split(".")[:2])
            self._learned = True
        return str(kept["of"][package])

    @cached_property
    def _installed(self) -> str:
        return installed()

    def _module_digest(self, module: str) -> str:
        if module not in self._modules:
            source = _source_file(module).read_bytes()
            name = f"{module} {hashlib.sha256(source).hexdigest()}"
            kept = self._memory["modules"]
            if name not in kept:
                self._forget(module)
                text = f"{module}\n{normalise(source.decode())}"
                kept[name] = hashlib.sha256(text.encode()).hexdigest()
                self._learned = True
            self._modules[module] = kept[name]
        return self._modules[module]

    def _forget(self, module: str) -> None:
        """Drop what is remembered of a module's former sources, so that the file stays small."""
        kept = self._memory["modules"]
        for name in [name for name in kept if name.startswith(f"{module} ")]:
            del kept[name]


@lru_cache(maxsize=1)
def owners() -> dict[str, list[str]]:
    """Import package -> names of the distributions that bring it (0.2 s, asked once)."""
    return dict(importlib.metadata.packages_distributions())


def installed() -> str:
    """Digest of which distributions are installed: every metadata folder, its size and time."""
    seen: list[tuple[str, int, int]] = []
    for place in sys.path:
        try:
            entries = [e for e in os.scandir(place or ".") if e.name.endswith(_METADATA)]
        except OSError:
            continue  # an archive, or not there
        for entry in sorted(entries, key=lambda e: e.name):
            for file in ("METADATA", "PKG-INFO", "RECORD", "top_level.txt"):
                try:
                    found = Path(entry.path, file).stat()
                except OSError:
                    continue
                seen.append((f"{entry.path}/{file}", found.st_size, found.st_mtime_ns))
    return digest_value(seen)


def _source_file(module: str) -> Path:
    """Where a module's source lies; the module itself is not imported for it."""
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(inspect.getfile(loaded))
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None
    assert spec.origin is not None
    stem = Path(spec.origin).parent.joinpath(*inner)
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def normalise(source: str) -> str:
    """``source`` without comments, layout, docstrings and ``Field`` descriptions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_text(s)] or [ast.Pass()]
        elif isinstance(node, ast.Call) and _called(node) == "Field":
            node.keywords = [k for k in node.keywords if k.arg != "description"]
    return ast.unparse(tree)


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, of a definition or of an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
