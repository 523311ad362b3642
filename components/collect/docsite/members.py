"""Members on a module's page: documented, public ones, each once in a package, with definitions."""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import Any

from pdoc.doc import Class, Doc, Function, Module, Variable

COPIED_DOCSTRING_CHARS = 120
"""Length from which a docstring that another member already has counts as a copy."""
_TRIVIAL_DOCSTRING = re.compile(
    r"(Alias for field number \d+|Initialize self\.  See help\(type\(self\)\).*|"
    r"(list|dictionary) of weak references.*|The type of the None singleton\.?)",
    re.DOTALL,
)

_SPHINX_DIRECTIVE = re.compile(
    r"^[ \t]*\.\. (?:autosummary|currentmodule|index|module|plot|toctree)::.*\n"
    r"(?:[ \t]+:\w+:.*\n)*",
    re.MULTILINE,
)
"""Sphinx directives that hold no text for a reader."""


class MemberSelector:
    """Selects members in the order of one package's pages, and remembers those already shown.

    A member that a page of its own module shows is left out where it is only re-exported; one from
    a private module is shown by the first page that exports it.
    """

    def __init__(self, site: frozenset[str]) -> None:
        self._site = site
        self._shown: set[tuple[str, str]] = set()
        self._texts: set[bytes] = set()

    def select_members(self, parent: Module | Class) -> list[Doc[Any]]:
        """Select documented, public members of ``parent`` that no page has shown yet."""
        own = parent.own_members
        return [doc for doc in own if doc.name[:1] != "_" and self._is_new(doc, parent)]

    def _is_new(self, doc: Doc[Any], parent: Module | Class) -> bool:
        home = doc.taken_from[0]
        if isinstance(parent, Module) and home != parent.modulename and home in self._site:
            return False
        text = own_docstring(doc)
        if not text and not (isinstance(doc, Class) and self._has_documented(doc)):
            return False
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if doc.taken_from in self._shown or (
            len(text) >= COPIED_DOCSTRING_CHARS and digest in self._texts
        ):
            return False
        self._shown.add(doc.taken_from)
        self._texts.add(digest)
        return True

    def _has_documented(self, doc: Class) -> bool:
        return any(inner.name[:1] != "_" and own_docstring(inner) for inner in doc.own_members)


def own_docstring(doc: Doc[Any]) -> str:
    """Docstring of the object itself, not inherited; a class's with that of its constructor."""
    if isinstance(doc, Function) and not _has_own_docstring(doc.obj):
        return ""
    text = _SPHINX_DIRECTIVE.sub("", doc.docstring).strip()
    if _TRIVIAL_DOCSTRING.fullmatch(text):
        text = ""
    if isinstance(doc, Class):
        constructor = _constructor(doc)
        extra = own_docstring(constructor) if constructor is not None else ""
        if extra and extra not in text:
            text = f"{text}\n\n{extra}".strip()
    return text


def _has_own_docstring(function: object) -> bool:
    """True unless the docstring comes from a base class's method of the same name."""
    return bool(getattr(function, "__doc__", None))


def _constructor(doc: Class) -> Function | None:
    for member in doc.own_members:
        if member.name == "__init__" and isinstance(member, Function):
            return member
    return None


def member_definition(doc: Doc[Any]) -> str:
    """Definition line of a member: ``def dumps(obj, *, skipkeys=False) -> str``."""
    if isinstance(doc, Class):
        constructor = _constructor(doc)
        signature = "" if constructor is None else str(constructor.signature_without_self)
        return f"class {doc.name}{'' if signature in ('()', '(unknown)') else signature}"
    if isinstance(doc, Variable):
        return f"{doc.name}{doc.annotation_str}"
    assert isinstance(doc, Function)
    decorator = "@classmethod\n" if doc.is_classmethod else ""
    decorator = "@staticmethod\n" if doc.is_staticmethod else decorator
    signature = str(doc.signature)
    if signature == "(unknown)":
        signature = _signature_from_docstring(doc) or "(...)"
    return f"{decorator}{doc.funcdef} {doc.name}{signature}"


def _signature_from_docstring(doc: Function) -> str:
    """Signature of a C function from the first line of its docstring; empty for none."""
    first_line = inspect.cleandoc(doc.docstring).partition("\n")[0]
    match = re.match(rf"(?:\w+\.)*{re.escape(doc.name)}(\(.*\))\s*(->.*)?$", first_line)
    return "" if match is None else match[1] + (f" {match[2].strip()}" if match[2] else "")
