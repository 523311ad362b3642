"""Compiled constraints of one model: in a thread of their own, within bounds, kept for reuse."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from llguidance import LLMatcher, LLParserLimits

from serving.api.error_responses import ApiError, queue_full_error
from serving.constrain.closing_path import ClosingPathFinder, SearchTooSlow
from serving.constrain.grammar_source import GrammarSource, invalid_value
from serving.constrain.guidance_vocabulary import GuidanceVocabulary
from serving.constrain.guided_constraint import LONGEST_PATH, GuidedConstraint

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
            is_text=self.source.is_text,
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
            raise invalid_value(source.place, _first_lines(matcher.get_error()))
        finder = ClosingPathFinder(vocabulary, source.samples, is_json=source.is_json)
        try:
            path = finder.find_short_path(matcher, LONGEST_PATH)
        except SearchTooSlow:
            raise invalid_value(source.place, "it is too complex to be followed in time") from None
        if path is None:
            raise invalid_value(
                source.place, f"no answer of at most {LONGEST_PATH} tokens was found that fits"
            )
        return CompiledGrammar(source, vocabulary, finder, matcher, tuple(path))


def _first_lines(error: str) -> str:
    """An error without the drawing that points into the grammar."""
    lines = [line for line in error.splitlines() if line.strip(" ^|")]
    return "; ".join(line.strip() for line in lines[:4])
