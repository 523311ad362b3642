"""Compiled constraints of one model: in a thread of their own, within bounds, kept for reuse."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from llguidance import LLMatcher, LLParserLimits

from components.core.log import get_logger
from serving.api.error_responses import ApiError, queue_full_error
from serving.constrain.closing_path import ClosingPathFinder, SearchTooSlow
from serving.constrain.grammar_source import GrammarSource
from serving.constrain.guidance_vocabulary import GuidanceVocabulary
from serving.constrain.guided_constraint import LONGEST_PATH, GuidedConstraint
from serving.constrain.schema_keywords import invalid_value

log = get_logger(__name__)
_NAMED_KEYWORDS = 8
"""Keywords that a line of the log names."""
KEPT_GRAMMARS = 128
"""Compiled grammars that are kept: an application has a few; each may take some MB."""
_WAITING = 64
"""Grammars that may wait to be compiled; each takes milliseconds, 100 at its bounds."""


def _parser_limits() -> LLParserLimits:
    """Bounds of compiling (some 20 ms), of a step (4 ms) and of memory (some 40 MB a grammar)."""
    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=50_000,
        step_max_items=50_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


@dataclass(frozen=True)
class CompiledGrammar:
    """A grammar that answers can be constrained by."""

    source: GrammarSource
    vocabulary: GuidanceVocabulary
    finder: ClosingPathFinder
    matcher: LLMatcher
    path: tuple[int, ...]
    """Tokens of the shortest known answer."""
    failures: list[str] = field(default_factory=list)
    """Bounds that answers ran into; its copies share what they learnt, so it is compiled anew."""

    def check_room(self, room: int, limit: int | None, field: str) -> None:
        """Refuse an answer that cannot be whole within its tokens.

        Args:
            room: tokens that the context leaves to it.
            limit: most tokens that the request wants.
            field: the request's field that sets the limit.

        Raises:
            ApiError: 400.
        """
        known = f"the shortest answer known has {len(self.path)} tokens"
        if limit is not None and len(self.path) > limit:
            raise ApiError(
                400,
                f"Invalid '{field}': {limit} tokens are too few for '{self.source.place}'; "
                f"{known}.",
                param=field,
                code="integer_below_min_value",
            )
        if len(self.path) > room:
            raise ApiError(
                400,
                f"Invalid '{self.source.place}': the model's context leaves {room} tokens to the "
                f"answer; {known}.",
                param=self.source.place,
                code="context_length_exceeded",
            )

    def constrain(self) -> GuidedConstraint:
        """The constraint of a new answer."""
        return GuidedConstraint(
            self.vocabulary,
            self.finder,
            self.matcher.deep_copy(),
            list(self.path),
            self.failures.append,
            bounds_numbers=self.source.is_json,
        )


class ConstraintFactory:
    """Compiles grammars for one model.

    Args:
        table: the bytes of each token, empty for special ones and padding.
        ends: tokens that end an answer.
        encode: ids of a text.
    """

    def __init__(
        self, table: Sequence[bytes], ends: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        self._arguments = (table, ends, encode)
        self._kept: OrderedDict[GrammarSource, CompiledGrammar] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self._waiting = 0

    @cached_property
    def vocabulary(self) -> GuidanceVocabulary:
        """The model's vocabulary, built at the first use: a large one takes a second."""
        return GuidanceVocabulary(*self._arguments)

    async def compile(self, source: GrammarSource) -> CompiledGrammar:
        """A compiled grammar (from a coroutine of the event loop that serves).

        Raises:
            ApiError: 400 where it is none or goes beyond its bounds, 429 where too many wait.
        """
        kept = self._kept.get(source)
        if kept is not None and not kept.failures:
            self._kept.move_to_end(source)
            return kept
        if self._waiting >= _WAITING:
            raise queue_full_error()
        self._waiting += 1
        try:
            running = asyncio.get_running_loop().run_in_executor(
                self._thread, self.compile_now, source
            )
            compiled = await running
        finally:
            self._waiting -= 1
        self._kept[source] = compiled
        while len(self._kept) > KEPT_GRAMMARS:
            self._kept.popitem(last=False)
        return compiled

    def compile_now(self, source: GrammarSource) -> CompiledGrammar:
        """Compile in this thread.

        Raises:
            ApiError: 400.
        """
        vocabulary = self.vocabulary
        matcher = LLMatcher(
            vocabulary.tokenizer, source.grammar, log_level=0, limits=_parser_limits()
        )
        if matcher.is_error():
            raise source.describe_error(matcher.get_error())
        _log_unheld(source, matcher)
        finder = ClosingPathFinder(vocabulary, source.samples, is_json=source.is_json)
        try:
            path = finder.find_short_path(matcher, LONGEST_PATH)
        except SearchTooSlow:
            raise invalid_value(source.place, "it is too complex to be followed in time") from None
        if not path and _is_empty(vocabulary, matcher):
            raise invalid_value(source.place, "it has no answer but the empty one")
        if path is None:
            reason = f"no answer of at most {LONGEST_PATH} tokens was found that fits"
            error = _find_start_error(vocabulary, matcher)
            raise invalid_value(source.place, f"{reason} ({error})" if error else reason)
        return CompiledGrammar(source, vocabulary, finder, matcher, tuple(path))


def _log_unheld(source: GrammarSource, matcher: LLMatcher) -> None:
    """Say once a grammar what of its schemas is left out."""
    if not source.doubtful:
        return
    unheld = source.unheld_keywords("\n".join(matcher.get_grammar_warnings()))
    if unheld:
        named = ", ".join(place[:200] for place in unheld[:_NAMED_KEYWORDS])
        more = len(unheld) - _NAMED_KEYWORDS
        log.warning(
            f"a schema that is not strict is held without {named}"
            + (f" and {more} more keywords" if more > 0 else "")
        )


def _is_empty(vocabulary: GuidanceVocabulary, matcher: LLMatcher) -> bool:
    """The empty text is the only answer."""
    allowed = vocabulary.allowed_tokens(matcher.deep_copy())
    allowed[list(vocabulary.ends)] = False
    return matcher.is_accepting() and not allowed.any()


def _find_start_error(vocabulary: GuidanceVocabulary, matcher: LLMatcher) -> str:
    """Bound of the parser that an answer's first token runs into; empty for none."""
    start = matcher.deep_copy()
    start.try_consume_tokens([int(vocabulary.allowed_tokens(start).argmax())])
    return start.get_error().partition("\n")[0] if start.is_error() else ""
