"""The grammar of a request's answers: its own constraint, or that of the tools that it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.constrain.constraint_factory import CompiledGrammar, ConstraintFactory
from serving.constrain.grammar_source import GrammarSource
from serving.constrain.tool_call_form import ToolCallForm
from serving.constrain.tool_fields import ToolFields, no_tools_error
from serving.constrain.tool_grammar import tool_call_source


def offer_tools(fields: ToolFields, form: ToolCallForm | None) -> list[dict[str, Any]] | None:
    """Tools for the prompt; None where the request offers none.

    Args:
        fields: of the request.
        form: in which the model's template writes calls, if it does.

    Raises:
        ApiError: 400, with the field.
    """
    fields.check_tools()
    if not fields.offered_tools:
        return None
    if form is None:
        raise no_tools_error()
    return fields.describe_tools()


def choose_source(
    fields: object,
    own: GrammarSource | None,
    form: ToolCallForm | None,
    special: Mapping[str, int],
) -> GrammarSource | None:
    """The grammar's source: the request's constraint, calls of its tools, or one of both.

    Args:
        fields: of the request; those of chat may offer tools.
        own: the constraint that it names.
        form: in which the model's template writes calls, if it does.
        special: id of every special token by its spelling.

    Raises:
        ApiError: 400, with the field of a schema that cannot be held.
    """
    if not isinstance(fields, ToolFields) or not fields.offered_tools or form is None:
        return own
    return tool_call_source(
        form,
        fields.callable_tools,
        special,
        forced=fields.forces_call,
        parallel=fields.parallel_tool_calls is not False,
        answer=own,
    )


async def compile_grammar(
    factory: ConstraintFactory,
    source: GrammarSource,
    rooms: Sequence[int],
    limit: tuple[int | None, str],
) -> CompiledGrammar:
    """A compiled grammar, whose shortest answer fits.

    Args:
        factory: the model's.
        source: of the grammar.
        rooms: tokens that the context leaves to the answer to each prompt.
        limit: most tokens that the request wants, and its field.

    Raises:
        ApiError: 400, with the field.
    """
    compiled = await factory.compile(source)
    for room in rooms:
        compiled.check_room(room, *limit)
    return compiled
