"""Grammar of an answer that calls tools: the template's form around arguments of their schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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

    def write(text: str) -> str:
        return _write_text(text, special)

    repeated = parallel and form.joint is not None
    following = f"({write(form.joint or '')} call)* " if repeated else ""
    calls = f"{write(form.opening)} call {following}{write(form.closing)}"
    lines = [f"calls: {calls}"]
    trigger = write(form.trigger)
    if forced:
        lines.insert(0, f"start: {trigger} calls")
    elif answer is not None:
        # By single lexemes: the lexer takes the longest, so '{"name": "' would hide JSON's '{'.
        if form.trigger not in special:
            trigger = " ".join(map(lark_literal, _LEXEME.findall(form.trigger)))
        lines.insert(0, f"start: @answer | {trigger} calls")
    elif form.trigger in special:
        lines.insert(0, f"start: text | text {trigger} calls")
        lines += ["text: TEXT", r"TEXT: /(.|\n)*/"]
    else:
        lines.insert(0, "start: text | head calls")
        lines += ["text: TEXT", f"head[lazy]: TEXT {trigger}", r"TEXT: /(.|\n)*/"]
    names = [f"call_{at}" for at in range(len(tools))]
    lines.append("call: " + " | ".join(names))
    separators = {
        "key_separator": form.key_separator, "item_separator": form.item_separator
    }  # fmt: skip
    doubtful, parts = list[DoubtfulKeyword](), list[tuple[str, str]]()
    for at, tool in enumerate(tools):
        function, place = tool.function, f"tools[{at}].function.parameters"
        schema = _NO_PARAMETERS if function.parameters is None else function.parameters
        options = {**(COMPACT if function.strict else LENIENT), **separators}
        text, noted = write_schema(schema, place, options)
        doubtful += noted
        parts.append((place, LLMatcher.grammar_from_json_schema(text)))
        lines.append(f"call_{at}: {lark_literal(function.name)} {write(form.between)} json_{at}")
        lines.append(f"json_{at}: %json {text}")
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
