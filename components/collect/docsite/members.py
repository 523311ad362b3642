"""What of a module goes on its page: documented members, once, with their definition."""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import Any

from pdoc.doc import Class, Doc, Function, Module, Variable

LONG_TEXT = 120
"""From this many characters on, a docstring that another member already has is a copy."""
_EMPTY = re.compile(
    r"(Alias for field number \d+|Initialize self\.  See help\(type\(self\)\).*|"
    r"(list|dictionary) of weak references.*|The type of the None singleton\.?)",
    re.DOTALL,
)

_DIRECTIVE = re.compile(
    r"^[ \t]*\.\. (?:autosummary|currentmodule|index|module|plot|toctree)::.*\n"
    r"(?:[ \t]+:\w+:.*\n)*",
    re.MULTILINE,
)
"""Sphinx directives that say nothing to a reader."""


class Chooser:
    """Chooses members in the order of one package's pages, and remembers what it gave away.

    A member that a page of its own module shows is left out where it is only re-exported; what
    comes from a private module is shown by the first page that exports it.
    """

    def __init__(self, site: frozenset[str]) -> None:
        self._site = site
        self._shown: set[tuple[str, str]] = set()
        self._texts: set[bytes] = set()

    def members(self, parent: Module | Class) -> list[Doc[Any]]:
        """Documented, public members of ``parent`` that no page has shown yet."""
        own = parent.own_members
        return [doc for doc in own if doc.name[:1] != "_" and self._is_new(doc, parent)]

    def _is_new(self, doc: Doc[Any], parent: Module | Class) -> bool:
        home = doc.taken_from[0]
        if isinstance(parent, Module) and home != parent.modulename and home in self._site:
            return False
        text = own_text(doc)
        if not text and not (isinstance(doc, Class) and self._has_documented(doc)):
            return False
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if doc.taken_from in self._shown or (len(text) >= LONG_TEXT and digest in self._texts):
            return False
        self._shown.add(doc.taken_from)
        self._texts.add(digest)
        return True

    def _has_documented(self, doc: Class) -> bool:
        return any(inner.name[:1] != "_" and own_text(inner) for inner in doc.own_members)


def own_text(doc: Doc[Any]) -> str:
    """A docstring that stands on the object itself; a class's with that of its constructor."""
    if isinstance(doc, Function) and not _written_here(doc.obj):
        return ""
    text = _DIRECTIVE.sub("", doc.docstring).strip()
    if _EMPTY.fullmatch(text):
        text = ""
    if isinstance(doc, Class):
        constructor = _constructor(doc)
        extra = own_text(constructor) if constructor is not None else ""
        if extra and extra not in text:
            text = f"{text}\n\n{extra}".strip()
    return text


def _written_here(function: object) -> bool:
    """Not taken from a base class's method of the same name."""
    return bool(getattr(function, "__doc__", None))


def _constructor(doc: Class) -> Function | None:
    for member in doc.own_members:
        if member.name == "__init__" and isinstance(member, Function):
            return member
    return None


def definition(doc: Doc[Any]) -> str:
    """The line that defines it: ``def dumps(obj, *, skipkeys=False) -> str``."""
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
        signature = _from_text(doc) or "(...)"
    return f"{decorator}{doc.funcdef} {doc.name}{signature}"


def _from_text(doc: Function) -> str:
    """C functions often write their signature as the first line of their docstring."""
    first = inspect.cleandoc(doc.docstring).partition("\n")[0]
    found = re.match(rf"(?:\w+\.)*{re.escape(doc.name)}(\(.*\))\s*(->.*)?$", first)
    return "" if found is None else found[1] + (f" {found[2].strip()}" if found[2] else "")
