"""Grammar of an answer that calls tools: the template's form around arguments of their schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llguidance import LLMatcher

from serving.constrain.grammar_source import (
    COMPACT,
    LENIENT,
    MAX_SOURCE_BYTES,
    GrammarSource,
    check_size,
    join_grammars,
    lark_literal,
    write_schema,
)
from serving.constrain.schema_keywords import DoubtfulKeyword
from serving.constrain.tool_call_form import ID, ID_PATTERN, ToolCallForm
from serving.constrain.tool_fields import ToolField

_LEXEME = re.compile(r'"[^"\\\s]*"|\s+|[^\s]')
"""Texts in quotes, white space, other signs one by one."""
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


def tool_call_source(
    form: ToolCallForm,
    tools: Sequence[ToolField],
    special: Mapping[str, int],
    *,
    forced: bool,
    parallel: bool,
    answer: GrammarSource | None = None,
) -> GrammarSource:
    """The grammar.

    Args:
        form: of the model's template.
        tools: that may be called.
        special: id of every special token by its spelling, which is no text in a grammar.
        forced: the answer is a call; else it may be text, up to where a call begins.
        parallel: several calls may follow each other.
        answer: constraint of an answer that is no call; None for any text.

    Raises:
        ApiError: 400, with the field of a schema that cannot be held.
    """

    lines = _start_rules(form, special, forced=forced, answered=answer is not None)
    lines += _call_rules(form, special, len(tools), parallel=parallel)
    schemas = [_write_parameters(form, tool, at) for at, tool in enumerate(tools)]
    for at, (tool, schema) in enumerate(zip(tools, schemas, strict=True)):
        between = _write_text(form.between, special)
        lines.append(f"call_{at}: {lark_literal(tool.function.name)} {between} json_{at}")
        lines.append(f"json_{at}: %json {schema.text}")
    doubtful = [keyword for schema in schemas for keyword in schema.doubtful]
    parts = [(s.place, LLMatcher.grammar_from_json_schema(s.text)) for s in schemas]
    lark = "\n".join(lines) + "\n"
    check_size(lark, MAX_SOURCE_BYTES, "tools")
    if answer is None or forced:
        return GrammarSource(
            LLMatcher.grammar_from_lark(lark),
            "tools",
            is_json=True,
            doubtful=tuple(doubtful),
            parts=tuple(parts),
        )
    return GrammarSource(
        join_grammars(lark, {"answer": answer.grammar}),
        answer.place,
        is_json=answer.is_json,
        samples=answer.samples,
        doubtful=(*answer.doubtful, *doubtful),
        parts=((answer.place, answer.grammar), *parts),
    )


class _Parameters(NamedTuple):
    """Schema of a tool's arguments as llguidance takes it."""

    place: str
    text: str
    doubtful: Sequence[DoubtfulKeyword]


def _write_parameters(form: ToolCallForm, tool: ToolField, at: int) -> _Parameters:
    """Schema of a tool's arguments, with the separators of the model's template."""
    function, place = tool.function, f"tools[{at}].function.parameters"
    schema = _NO_PARAMETERS if function.parameters is None else function.parameters
    separators = {
        "key_separator": form.key_separator, "item_separator": form.item_separator
    }  # fmt: skip
    options = {**(COMPACT if function.strict else LENIENT), **separators}
    return _Parameters(place, *write_schema(schema, place, options))


def _start_rules(
    form: ToolCallForm, special: Mapping[str, int], *, forced: bool, answered: bool
) -> list[str]:
    """Rules of where calls may begin: at once, beside a constrained answer, or after any text."""
    trigger = _write_text(form.trigger, special)
    if forced:
        return [f"start: {trigger} calls"]
    if answered:
        # By single lexemes: the lexer takes the longest, so '{"name": "' would hide JSON's '{'.
        if form.trigger not in special:
            trigger = " ".join(map(lark_literal, _LEXEME.findall(form.trigger)))
        return [f"start: @answer | {trigger} calls"]
    text = ["text: TEXT", r"TEXT: /(.|\n)*/"]
    if form.trigger in special:
        return [f"start: text | text {trigger} calls", *text]
    return ["start: text | head calls", f"head[lazy]: TEXT {trigger}", *text]


def _call_rules(
    form: ToolCallForm, special: Mapping[str, int], tools: int, *, parallel: bool
) -> list[str]:
    """Rules of a call of any of the tools, and of those that follow it."""
    joint = _write_text(form.joint or "", special)
    following = f"({joint} call)* " if parallel and form.joint is not None else ""
    opening, closing = (_write_text(text, special) for text in (form.opening, form.closing))
    names = " | ".join(f"call_{at}" for at in range(tools))
    return [f"calls: {opening} call {following}{closing}", f"call: {names}"]


def _write_text(text: str, special: Mapping[str, int]) -> str:
    """A text in Lark: literals, special tokens by their ids, identifiers by their pattern."""
    written, literal, at = list[str](), "", 0
    spellings = sorted(special, key=len, reverse=True)

    def flush() -> None:
        nonlocal literal
        if literal:
            written.append(lark_literal(literal))
        literal = ""

    while at < len(text):
        spelling = next((name for name in spellings if text.startswith(name, at)), None)
        if spelling is not None:
            flush()
            written.append(f"<[{special[spelling]}]>")
        elif text[at] == ID:
            flush()
            written.append(f"/{ID_PATTERN}/")
        else:
            literal += text[at]
        at += len(spelling) if spelling else 1
    flush()
    return " ".join(written)
