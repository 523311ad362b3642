"""Digest of a caller's own function: its code, and all that the code uses.

Followed from the function on: the names that its compiled code loads (globals, closures, defaults,
imports inside), so that neither another cell of a notebook nor another function of the file counts.
Functions and classes of the caller count by their source without comments and docstrings, plain
values by their content, modules of the caller by their source, those of Modelmill as in any stage,
other packages by ``major.minor``. The standard library does not count.
"""

from __future__ import annotations

import dis
import enum
import hashlib
import importlib.util
import inspect
import logging
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel

from components.core.errors import ConfigError
from components.core.store.artifact import digest_value
from components.core.store.code_digest import (
    PACKAGES,
    CodeIndex,
    config_classes,
    distribution_owners,
    normalise_source,
)

_FACADE = "modelmill"
_GENERATED = "<string>"
"""File name of methods that ``dataclass`` and ``NamedTuple`` write."""
_ADDRESS = re.compile(" at 0x[0-9a-f]+")
"""Of an object in memory: another one in each process."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes, PurePath, re.Pattern)


class OwnCodeIndex(CodeIndex):
    """Code digests of Modelmill's components, and of functions of the caller's own."""

    def code_parts(
        self, component: Callable[..., Any], config: BaseModel | None = None
    ) -> dict[str, str]:
        """Part of the code -> digest or version.

        Raises:
            ConfigError: the function, or something it uses, cannot be digested; names it.
        """
        if is_first_party(component.__module__) and not _own_classes(config):
            return super().code_parts(component, config)
        own = _OwnParts(inspect.unwrap(component).__qualname__)
        own.visit(component.__qualname__, inspect.unwrap(component))
        for kind in sorted(_own_classes(config), key=lambda kind: kind.__qualname__):
            own.visit(kind.__qualname__, kind)
        starts = own.first_party | self._config_modules(config)
        parts = self._collect({start for start in starts if start in self._graph.modules})
        versions = {package: self._version(package) for package in own.packages}
        return {**parts, **versions, **own.parts}


def is_first_party(module: str) -> bool:
    """True for a module whose code Modelmill's own index digests."""
    return module.partition(".")[0] in PACKAGES


def _own_classes(config: BaseModel | None) -> set[type]:
    return {kind for kind in config_classes(config) if _is_own(kind.__module__)}


def _is_own(module: str) -> bool:
    """True for the caller's modules: neither Modelmill's, nor installed, nor the library's."""
    top = module.partition(".")[0]
    return not (
        top in PACKAGES
        or top in ("flows", _FACADE)
        or top in sys.stdlib_module_names
        or top in distribution_owners()
    ) or (module == "__main__")


class _OwnParts:
    """Walk over what a function uses; ``parts`` gathers digests, by kind and name."""

    def __init__(self, function: str) -> None:
        self.parts: dict[str, str] = {}
        self.first_party: set[str] = set()
        self.packages: set[str] = set()
        self._function = function
        self._seen: set[int] = set()

    def visit(self, name: str, value: Any) -> None:
        """Gather the digest of a value that the function reaches as ``name``.

        Raises:
            ConfigError: no key can hold it.
        """
        value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        value = getattr(value, "py_func", value)  # numba's dispatcher
        if id(value) in self._seen:
            return
        if not isinstance(value, _PLAIN):
            self._seen.add(id(value))
        if isinstance(value, types.ModuleType):
            self._visit_module(value)
        elif isinstance(value, types.MethodType):
            self.visit(name, value.__func__)
        elif isinstance(value, types.FunctionType | type):
            if not _is_own(value.__module__):
                self._note_module(value.__module__)
            elif isinstance(value, type):
                self._visit_class(value)
            else:
                self._visit_function(value)
        elif not self._is_of_a_package(value):
            self._add("value", name, digest_value(self._content(name, value)))

    def _add(self, kind: str, name: str, digest: str) -> None:
        """Add a part; of several of one name (in two files, by two closures) all count."""
        part = f"own {kind} {name}"
        self.parts[part] = (
            digest_value([self.parts[part], digest]) if part in self.parts else digest
        )

    def _visit_function(self, function: types.FunctionType) -> None:
        name = function.__qualname__
        if function.__name__ == "<lambda>":
            raise ConfigError(
                f"{self._function}: uses a lambda, whose source cannot be told from its "
                "neighbours': write a function with a name (def)"
            )
        try:
            source = normalise_source(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError) as error:
            raise ConfigError(
                f"{self._function}: the source of {name} cannot be read, so its result could not "
                "be kept by its code: define it in a file or a notebook's cell"
            ) from error
        self._add("function", name, hashlib.sha256(source.encode()).hexdigest())
        for loaded, value in _loaded_values(function):
            self.visit(loaded, value)
        for module in _imported_modules(function.__code__, function.__globals__):
            self._visit_module_name(module)

    def _visit_class(self, kind: type) -> None:
        """A class by its members, since a notebook's has no source to ask for."""
        name = kind.__qualname__
        for base in kind.__bases__:
            self.visit(base.__qualname__, base)
        if issubclass(kind, enum.Enum):
            members = [[member.name, repr(member.value)] for member in kind]
            self._add("class", name, digest_value(members))
            return
        described: list[list[str]] = []
        if issubclass(kind, BaseModel):
            for field, info in kind.model_fields.items():
                shown = (info.annotation, info.default, info.metadata, info.alias)
                described.append([field, *(_ADDRESS.sub("", repr(part)) for part in shown)])
                for part in info.metadata:
                    if isinstance(getattr(part, "func", None), types.FunctionType):
                        self.visit(f"{name}.{field}", part.func)  # a validator's
                for inner in (info.annotation, *get_args(info.annotation)):
                    if isinstance(inner, type) and _is_own(inner.__module__):
                        self.visit(inner.__qualname__, inner)
                if info.default_factory is not None:
                    self.visit(f"{name}.{field}", info.default_factory)
        elif is_dataclass(kind):
            described += [
                [field.name, str(field.type), repr(field.default)] for field in fields(kind)
            ]
        self._add("class", name, digest_value(described))
        for member, value in sorted(vars(kind).items()):
            self._visit_member(f"{name}.{member}", member, value)

    def _visit_member(self, name: str, member: str, value: Any) -> None:
        if isinstance(value, property):
            for part in (value.fget, value.fset):
                if part is not None:
                    self.visit(name, part)
            return
        value = getattr(value, "wrapped", value)  # pydantic's validators
        value = getattr(value, "__func__", value)  # classmethod, staticmethod
        value = getattr(value, "func", value)  # cached_property
        value = inspect.unwrap(value) if isinstance(value, types.FunctionType) else value
        if isinstance(value, types.FunctionType):
            if value.__code__.co_filename != _GENERATED:
                self.visit(name, value)
        elif not member.startswith(("__", "_abc", "model_")) and not hasattr(value, "__get__"):
            self.visit(name, value)

    def _visit_module_name(self, name: str) -> None:
        if _is_own(name):
            module = sys.modules.get(name)
            if module is not None:
                self._visit_module(module)
        else:
            self._note_module(name)

    def _visit_module(self, module: types.ModuleType) -> None:
        """A module of the caller that is used as a whole: its source, and what it imports."""
        name = module.__name__
        if not _is_own(name):
            self._note_module(name)
            return
        part = f"own module {name}"
        path = getattr(module, "__file__", None)
        if part in self.parts or path is None:  # of a notebook, only what is used counts
            return
        source = normalise_source(Path(path).read_text(encoding="utf-8"))
        self.parts[part] = hashlib.sha256(source.encode()).hexdigest()
        code = compile(source, path, "exec")
        for imported in _imported_modules(code, vars(module)):
            self._visit_module_name(imported)

    def _note_module(self, module: str) -> None:
        top = module.partition(".")[0]
        if is_first_party(module):
            self.first_party.add(module)
        elif top in distribution_owners() and top != "flows":
            self.packages.add(top)

    def _is_of_a_package(self, value: Any) -> bool:
        """True for a built-in, a type's expression or an object that a package's version fixes."""
        if isinstance(value, logging.Logger):
            return True
        module = getattr(value, "__module__", None) or ""
        is_code = callable(value) and hasattr(value, "__name__")
        is_typing = type(value).__module__ in ("typing", "types", "typing_extensions")
        if (is_code or is_typing) and not _is_own(module or "builtins"):
            self._note_module(module)
            return True
        return False

    def _content(self, name: str, value: Any) -> Any:
        """A value as JSON, of plain ones and their collections.

        Raises:
            ConfigError: it is of another kind.
        """
        kind = type(value).__name__
        if isinstance(value, _PLAIN):
            return [kind, repr(value)]
        if isinstance(value, enum.Enum):
            self.visit(type(value).__qualname__, type(value))
            return [kind, value.name]
        if isinstance(value, list | tuple):
            return [kind, [self._content(name, inner) for inner in value]]
        if isinstance(value, set | frozenset):
            return [kind, sorted((self._content(name, inner) for inner in value), key=repr)]
        if isinstance(value, Mapping):
            pairs = ([self._content(name, k), self._content(name, v)] for k, v in value.items())
            return [kind, sorted(pairs, key=lambda pair: repr(pair[0]))]
        if isinstance(value, BaseModel):
            self.visit(type(value).__qualname__, type(value))
            return [kind, value.model_dump(mode="json")]
        if isinstance(value, np.ndarray) and value.dtype != object:
            return [
                kind,
                str(value.dtype),
                list(value.shape),
                hashlib.sha256(value.tobytes()).hexdigest(),
            ]
        if callable(value) and isinstance(value, types.FunctionType | type):
            self.visit(name, value)
            return [kind, value.__qualname__]
        if type(value).__module__ == "pyarrow.lib" and kind in ("Schema", "Field", "DataType"):
            return [kind, str(value)]
        raise ConfigError(
            f"{self._function}: uses {name}, a {kind}, which no key can hold: make it a field of "
            "the config or an input"
        )


def _loaded_values(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, value) of the globals, closures and defaults that a function uses."""
    for name in sorted(_loaded_globals(function.__code__)):
        first, _, rest = name.partition(".")
        if first not in function.__globals__:
            continue  # a built-in, or a name that fails when it is reached
        value = function.__globals__[first]
        is_facade = isinstance(value, types.ModuleType) and value.__name__ == _FACADE
        if is_facade and rest:
            yield rest, getattr(value, rest)
        elif not rest and not is_facade:
            yield name, value
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    yield from ((name, cell.cell_contents) for name, cell in cells)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield from ((f"{function.__qualname__} default {at}", v) for at, v in enumerate(defaults))


def _loaded_globals(code: types.CodeType) -> set[str]:
    """Globals that code loads, those of the functions inside it too; with the next attribute."""
    names: set[str] = set()
    former = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            former = str(instruction.argval)
            names.add(former)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and former:
            names.add(f"{former}.{instruction.argval}")
            former = ""
        elif instruction.opname != "CACHE":
            former = ""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _loaded_globals(constant)
    return names


def _imported_modules(code: types.CodeType, namespace: Mapping[str, Any]) -> Iterator[str]:
    """Absolute names of the modules that code imports, names taken from packages too."""
    module, level = "", 0
    before: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level = next((v for v in reversed(before) if isinstance(v, int)), 0)
            module = str(instruction.argval)
            if level:
                package = str(namespace.get("__package__") or "")
                module = importlib.util.resolve_name("." * level + module, package)
            yield module
        elif instruction.opname == "IMPORT_FROM":
            yield f"{module}.{instruction.argval}"
        elif instruction.opname == "LOAD_CONST":
            before.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imported_modules(constant, namespace)
