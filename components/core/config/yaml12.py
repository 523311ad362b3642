"""YAML 1.2's core schema for PyYAML, which resolves scalars by YAML 1.1.

By 1.1 ``on`` and ``no`` are booleans, ``0100`` is 64, ``1:40`` is 100 and ``1e2`` is text; by 1.2
(section 10.3.2) the first two are text, as is ``1:40``, ``0100`` is 100 and ``1e2`` a number. Merge
keys (``<<``), which 1.2 left out, stay: anchors are of little use without them.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_RESOLVERS = (  # tag, pattern, first characters; integers before floats, whose pattern takes both
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
    ("merge", r"<<", ("<",)),
)
_HASH_STANDIN = "\U0010ffff"
"""Stand-in for ``#`` where none begins a comment: a Unicode noncharacter, absent from any text."""


class FileLoader(yaml.SafeLoader):
    """Loader of a file: YAML's safe types, scalars by the core schema, keys always text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML has it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are the text that was typed: ``on``, ``1`` and ``null`` too.

        Raises:
            ConstructorError: a key is a list or a mapping.
        """
        self.flatten_mapping(node)
        return {
            require_text_key(key): self.construct_object(value, deep=deep)
            for key, value in node.value
        }


class ValueLoader(FileLoader):
    """Loader of a single value from the command line, where nothing is a comment."""

    def __init__(self, text: str) -> None:
        super().__init__(text.replace("#", _HASH_STANDIN))

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        node.value = node.value.replace(_HASH_STANDIN, "#")
        return node


def require_text_key(key: yaml.Node) -> str:
    """Text of a mapping's key.

    Raises:
        ConstructorError: it is no scalar.
    """
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(
            None, None, "the name of a field must be text", key.start_mark
        )
    return str(key.value)


def _construct_int(loader: FileLoader, node: yaml.ScalarNode) -> int:
    value = str(loader.construct_scalar(node))
    bases = {"0o": 8, "0x": 16}
    return int(value, bases.get(value[:2], 10))


for _tag, _pattern, _first in _RESOLVERS:
    FileLoader.add_implicit_resolver(_TAG + _tag, re.compile(f"^(?:{_pattern})$"), list(_first))
FileLoader.add_constructor(f"{_TAG}int", _construct_int)
