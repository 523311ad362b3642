"""Fields of a message that a chat template reads, from its syntax tree.

A field that the template does not read changes nothing of the prompt, so whoever sends it is not
heard. Variables are followed from ``messages`` through loops and assignments.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

_MESSAGES = "messages"
_MESSAGE_PARAMETERS = frozenset({"message", "msg"})
"""Names of a macro's parameter that stand for a message wherever it is called."""
_TRANSPARENT = frozenset(
    {"bound_value", "bound_loop", "first", "last", "list", "reverse", "default"}
)
"""Filters behind which a message, or a list of them, is still one."""

_METHODS = frozenset({"get", "items", "keys", "values"})
"""Attributes of a message that are no fields."""


def find_message_fields(tree: nodes.Template) -> frozenset[str] | None:
    """Names of the fields that are read; None where whole messages are written.

    Args:
        tree: the template, parsed.
    """
    variables = _find_variables(tree)
    fields: set[str] = set()
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Call, nodes.Compare)):
        name = _read_field(node, variables)
        if name is not None:
            fields.add(name)
    if _writes_whole_message(tree, variables):
        return None
    return frozenset(fields - _METHODS)


def _find_variables(tree: nodes.Template) -> frozenset[str]:
    """Variables that hold messages, one or a list of them."""
    variables = {_MESSAGES, *_MESSAGE_PARAMETERS}
    while True:
        before = len(variables)
        for loop in tree.find_all(nodes.For):
            if _is_message(loop.iter, variables):
                variables.update(_names(loop.target))
        for assignment in tree.find_all(nodes.Assign):
            if _is_message(assignment.node, variables):
                variables.update(_names(assignment.target))
        if len(variables) == before:
            return frozenset(variables)


def _names(target: nodes.Node) -> Iterator[str]:
    if isinstance(target, nodes.Name):
        yield target.name


def _is_message(node: nodes.Node | None, variables: frozenset[str] | set[str]) -> bool:
    """The expression gives a message or a list of them."""
    if isinstance(node, nodes.Name):
        return node.name in variables
    if isinstance(node, nodes.Getitem):  # messages[0], messages[1:]; not message['content']
        return _text_of(node.arg) is None and _is_message(node.node, variables)
    if isinstance(node, nodes.Filter):
        return node.name in _TRANSPARENT and _is_message(node.node, variables)
    if isinstance(node, nodes.CondExpr):
        return _is_message(node.expr1, variables) or _is_message(node.expr2, variables)
    if isinstance(node, nodes.Add):
        return _is_message(node.left, variables) or _is_message(node.right, variables)
    return False


def _read_field(node: nodes.Node, variables: frozenset[str]) -> str | None:
    """Name of the field that an expression reads of a message."""
    if isinstance(node, nodes.Getattr) and _is_message(node.node, variables):
        return node.attr
    if isinstance(node, nodes.Getitem) and _is_message(node.node, variables):
        return _text_of(node.arg)
    if isinstance(node, nodes.Compare) and any(
        operand.op in ("in", "notin") and _is_message(operand.expr, variables)
        for operand in node.ops
    ):
        return _text_of(node.expr)
    if (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Getattr)
        and node.node.attr == "get"
        and node.args
        and _is_message(node.node.node, variables)
    ):
        return _text_of(node.args[0])
    return None


def _text_of(node: nodes.Node | None) -> str | None:
    while isinstance(node, nodes.Filter) and node.name in _TRANSPARENT:
        node = node.node
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return node.value
    return None


def _writes_whole_message(tree: nodes.Template, variables: frozenset[str]) -> bool:
    """A message is written or gone over as a whole (``message | tojson``, ``message.items()``)."""
    for output in tree.find_all(nodes.Output):
        if any(_is_message(node, variables) for node in output.nodes):
            return True
    for use in tree.find_all(nodes.Filter):
        if use.name in ("tojson", "string", "items", "dictsort") and _is_message(
            use.node, variables
        ):
            return True
    return any(
        node.attr in ("items", "values") and _is_message(node.node, variables)
        for node in tree.find_all(nodes.Getattr)
    )
