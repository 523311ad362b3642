"""Questions and reference answers of a documentation page, extracted from its Markdown.

An API page (heading = qualified name, fenced signature, description) gives three kinds:
``describe`` (what does it do), ``module`` (where is it) and ``parameters`` (what does it take).
Any other page gives ``describe`` alone, from its headings and the sentence below each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from components.text.chat.question_wordings import QuestionForm, QuestionKind, word_question
from components.text.first_sentence import count_words, first_sentence
from components.text.heading_topics import names_release, topic_of
from components.text.markdown_sections import Section, split_sections

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_HEADING_CALL = re.compile(r"(?:class |def |async def )?([A-Za-z_][\w.]*)\s*(?:\(.*\))?\s*")
_IMPLIED = ("self", "cls")
MAX_TOPIC_WORDS = 12
"""A longer heading is a sentence of its own, which a question about it would repeat."""
_DEFINITIONS = ("def ", "async def ", "class ")


class Question(NamedTuple):
    """One question with its reference answer."""

    kind: QuestionKind
    subject: str
    question: str
    answer: str
    wordings: list[str]
    """Wordings of the question to train on; the first is ``question``."""
    reworded: list[str]
    """Wordings of the question never to train on."""


def extract_questions(text: str, title: str, max_words: int) -> Iterator[Question]:
    """Extract the questions and answers of one page, in its order.

    Args:
        text: the page's Markdown.
        title: the page's title, which may name the module it documents.
        max_words: most words of an answer; longer ones are left out.
    """
    parts = split_sections(text)
    module = _documented_module(parts, title)
    if module is None:
        yield from _topic_questions(parts, max_words)
        return
    for part in parts:
        name = _qualified_name(part)
        if name == module:
            yield from _description_question("about", module, part, max_words)
        elif name is not None and (name.startswith(module + ".") or _has_definition(part)):
            yield from _member_questions(name, module, part, max_words)


def _member_questions(name: str, module: str, part: Section, max_words: int) -> Iterator[Question]:
    yield from _description_question("describe", name, part, max_words)
    inside = name.startswith(module + ".")
    if inside and "." not in name.removeprefix(module + "."):
        short = name.removeprefix(module + ".")
        answer = f"`{short}` is in the module `{module}`."
        yield _make_question("module", "module", name, short, answer)
    listed = signature_parameters(part.fence or "")
    if listed is not None:
        answer = _parameters_answer(name, listed)
        if count_words(answer) <= max_words:
            yield _make_question("parameters", "parameters", name, name, answer)


def _topic_questions(parts: list[Section], max_words: int) -> Iterator[Question]:
    """Questions of a page that documents no API: a heading, and the first sentence below it.

    What stands below a release or a date is a change log: its headings say what kind of change.
    """
    release: int | None = None  # level of the heading of the change log's entry we are in
    for part in parts:
        if release is not None and part.level > release:
            continue
        release = part.level if names_release(part.heading) else None
        topic = topic_of(part.heading)
        if topic is not None and count_words(topic) <= MAX_TOPIC_WORDS:
            yield from _description_question("topic", topic, part, max_words)


def _description_question(
    form: QuestionForm, subject: str, part: Section, max_words: int
) -> Iterator[Question]:
    sentence = first_sentence(part.paragraphs, max_words=max_words)
    if sentence is not None:
        yield _make_question("describe", form, subject, subject, sentence)


def _make_question(
    kind: QuestionKind, form: QuestionForm, subject: str, shown: str, answer: str
) -> Question:
    trained, reserved = word_question(form, subject, shown)
    return Question(kind, subject, trained[0], answer, trained, reserved)


def _documented_module(parts: list[Section], title: str) -> str | None:
    """Module that an API page documents: its first heading, when others start with its name."""
    if not parts:
        return None
    first = parts[0].heading.removeprefix("module ").strip().strip("`")
    for name in (first, title.strip()):
        if _NAME.fullmatch(name) and any(part.heading.startswith(name + ".") for part in parts[1:]):
            return name
    named = [part for part in parts if _qualified_name(part) and _has_definition(part)]
    if not named:
        return None
    if _NAME.fullmatch(first) and topic_of(first) is not None:
        return first
    return (_qualified_name(named[0]) or "").rpartition(".")[0] or None


def _qualified_name(part: Section) -> str | None:
    """Qualified name that a heading gives; None where it gives none."""
    match = _HEADING_CALL.fullmatch(part.heading)
    return match[1].strip(".") if match and _NAME.fullmatch(match[1].strip(".")) else None


def _has_definition(part: Section) -> bool:
    """True where a definition stands below the heading, as for the members of a module."""
    return part.fence is not None and part.fence.lstrip().startswith(_DEFINITIONS)


def signature_parameters(signature: str) -> list[str] | None:
    """Parameters of a ``def``, without ``self`` and ``cls``; None where it is no ``def``."""
    code = signature.strip()
    if not code.startswith(("def ", "async def ")):
        return None
    try:
        tree = ast.parse(code.rstrip(":").rstrip() + ": ...")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _parse_loose_parameters(code)
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [a.arg for a in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return names[1:] if names and names[0] in _IMPLIED else names


def _parse_loose_parameters(code: str) -> list[str] | None:
    """Parameters of a signature that is no valid Python (``obj=<object object>``)."""
    inside = code[code.find("(") + 1 :]
    depth, piece, pieces = 0, "", []
    for character in inside:
        depth += character in "([{<"
        depth -= character in ")]}>" and not piece.endswith("-")
        if depth < 0:
            break
        if character == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += character
    if depth >= 0:
        return None
    pieces.append(piece)
    names = [re.split(r"[:=]", p, maxsplit=1)[0].strip() for p in pieces]
    if not all(re.fullmatch(r"\*{0,2}\w*|/", name) for name in names):
        return None
    return [n for n in names if n not in ("", "/", "*", *_IMPLIED)]


def _parameters_answer(name: str, listed: list[str]) -> str:
    short = name.rpartition(".")[2]
    shown = [f"`{parameter}`" for parameter in listed]
    if not shown:
        return f"`{short}` takes no parameters."
    if len(shown) == 1:
        return f"`{short}` takes one parameter: {shown[0]}."
    return f"`{short}` takes {len(shown)} parameters: {', '.join(shown[:-1])} and {shown[-1]}."
