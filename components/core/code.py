"""Digests of code, so that editing a helper re-runs what uses it and editing a comment nothing.

A component's code is its module and every first-party module upstream of it (with their packages'
``__init__``), each as ``ast.unparse`` without docstrings and ``Field`` descriptions (``ast.dump``
differs between Python versions), and the major.minor versions of the third-party packages that
these import.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import grimp

from components.core.artifact import digest_value

PACKAGES = ("components", "models", "serving")
PLUMBING = frozenset(
    f"components.core.{name}"
    for name in ("store", "workdir", "log", "errors", "settings", "tracking")
)
"""Modules that carry a stage without shaping what it makes: they share one version number."""
PLUMBING_VERSION = "1"


def component_name(component: Callable[..., Any]) -> str:
    """Dotted name of a component: ``components.clean.quality.score_quality``."""
    return f"{component.__module__}.{component.__qualname__}"


class CodeIndex:
    """Code digests of components, from one import graph built at first use."""

    def __init__(self, packages: Sequence[str] = PACKAGES) -> None:
        self._packages = tuple(packages)
        self._modules: dict[str, str] = {}
        self._parts: dict[str, dict[str, str]] = {}

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

    @cached_property
    def _distributions(self) -> dict[str, list[str]]:
        return dict(importlib.metadata.packages_distributions())

    def _version(self, package: str) -> str:
        names = self._distributions.get(package)
        if not names:
            return "absent"
        return ".".join(importlib.metadata.version(sorted(names)[0]).split(".")[:2])

    def _module_digest(self, module: str) -> str:
        if module not in self._modules:
            source = _source_file(module).read_text(encoding="utf-8")
            text = f"{module}\n{normalise(source)}"
            self._modules[module] = hashlib.sha256(text.encode()).hexdigest()
        return self._modules[module]


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
