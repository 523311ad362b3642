"""Shortest known continuation that makes a constrained answer whole.

A greedy walk on a copy of the matcher: bytes that the grammar forces, then the byte that closes
most, then those that the walk has used least, so that a loop (``a*b``) is left. It finds a path in
microseconds, not the shortest one. Before an answer starts, other choices are tried at each place;
where no walk ends (``.*END``), a beam search over bytes does, whose states are told apart by the
tokens that may follow. All of it is bounded by counts, so equal requests get equal paths.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from llguidance import LLMatcher

from serving.constrain.guidance_vocabulary import GuidanceVocabulary

_CLOSING = b'}])"'
"""Bytes that close a value in JSON and in most grammars, tried first, in this order."""
_SHORT_VALUES = b"0123456789ntf[{,-"
"""Beginnings of JSON's shortest values, in this order."""
_ALTERNATIVES = 6
"""Other choices that are tried at a place: a schema seldom has more beginnings of a value."""
_SEARCH_STEPS = 20_000
"""Tokens of all walks before an answer starts, each some 5 µs."""
_BEAM_WIDTH, _BEAM_STEPS = 8, 30_000
"""States of equal length that are followed, and bytes tried in all, each some 5 µs."""
SEARCH_SECONDS = 0.5
"""Processor time before an answer starts; a grammar that takes longer is refused. Others wait for
it meanwhile."""


class SearchTooSlow(Exception):
    """The grammar's steps take so long that no closing path was found in time."""


@dataclass
class Walk:
    """One way from a state to a whole answer."""

    tokens: list[int] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)
    """Places in ``tokens`` that the grammar left open."""
    closed: bool = False


class ClosingPathFinder:
    """Finds continuations that end an answer.

    Args:
        vocabulary: the model's.
        samples: texts that may fit where nothing closes, such as matches of patterns.
        is_json: quotes and brackets close more than a sample.
    """

    def __init__(
        self, vocabulary: GuidanceVocabulary, samples: Sequence[str], *, is_json: bool
    ) -> None:
        self._vocabulary, self._is_json = vocabulary, is_json
        encode = vocabulary.tokenizer.tokenize_str
        self._samples = [tokens for sample in samples if (tokens := list(encode(sample)))]
        known = vocabulary.single_bytes
        self._singles = sorted(known.values())
        self._preferred = [known[byte] for byte in (*_CLOSING, *_SHORT_VALUES) if byte in known]
        self._closing = [known[byte] for byte in _CLOSING if byte in known]
        self._closers = frozenset(
            token for token, text in enumerate(vocabulary.table) if text and text[-1] in _CLOSING
        )
        self._quote = [known[byte] for byte in b'"' if byte in known]
        self._letter = known.get(ord("z"))
        self._longest_token = max(map(len, vocabulary.table))
        self._deadline = float("inf")

    def find_path(self, matcher: LLMatcher, longest: int) -> list[int] | None:
        """Tokens that make the answer whole, by one walk; None where it gets to no end.

        Args:
            matcher: state of the answer; stays as it is.
            longest: most tokens.
        """
        walk = self._walk(matcher.deep_copy(), [], longest)
        return walk.tokens if walk.closed else None

    def _check_time(self) -> None:
        if time.thread_time() > self._deadline:
            raise SearchTooSlow

    def find_short_path(self, matcher: LLMatcher, longest: int) -> list[int] | None:
        """As ``find_path``, the shortest of many walks; None where the answer may have no end.

        Args:
            matcher: state of the answer; stays as it is.
            longest: most tokens.

        Raises:
            SearchTooSlow: it takes too long.
        """
        if self._forced_tokens(matcher, longest) is None:
            return None
        self._deadline = time.thread_time() + SEARCH_SECONDS
        best = self._walk(matcher.deep_copy(), [], longest)
        if not best.closed:
            path = self._search_beam(matcher, longest)
            if path is None:
                return None
            best.tokens = path
        steps, place = len(best.tokens), 0
        while steps < _SEARCH_STEPS:
            place = next((choice for choice in best.choices if choice >= place), -1)
            if not 0 <= place < len(best.tokens):
                break
            begin = best.tokens[:place]
            start = matcher.deep_copy()
            start.consume_tokens(begin)
            for token in self._list_alternatives(start, best.tokens[place]):
                walk = self._walk(matcher.deep_copy(), [*begin, token], len(best.tokens) - 1)
                steps += len(walk.tokens) - place
                if walk.closed:
                    best = walk
            place += 1
        self._deadline = float("inf")  # the walks of answers have a bound of their own
        return self._join_tokens(matcher, best.tokens)

    def _list_alternatives(self, matcher: LLMatcher, taken: int) -> list[int]:
        allowed = self._vocabulary.allowed_tokens(matcher)
        choices = dict.fromkeys(t for t in (*self._preferred, *self._singles) if allowed[t])
        return [token for token in choices if token != taken][:_ALTERNATIVES]

    def _join_tokens(self, matcher: LLMatcher, path: list[int]) -> list[int]:
        """The same bytes in fewer tokens, where the grammar takes them."""
        tokenizer = self._vocabulary.tokenizer
        if any(not self._vocabulary.table[token] for token in path):
            return path  # special tokens have no bytes
        joined = list(tokenizer.tokenize_bytes(tokenizer.decode_bytes(path)))
        if len(joined) < len(path) and matcher.validate_tokens(joined) == len(joined):
            return joined
        return path

    def _walk(self, matcher: LLMatcher, begin: list[int], longest: int) -> Walk:
        """Walk on until the answer is whole or ``longest`` tokens are taken.

        Args:
            matcher: is moved.
            begin: tokens to start with.
            longest: most tokens.
        """
        walk = Walk(choices=list(range(len(begin))))
        if matcher.try_consume_tokens(begin) < len(begin):
            return walk
        walk.tokens, used = list(begin), Counter[int]()
        while not matcher.is_accepting():
            if len(walk.tokens) >= longest or matcher.is_error():
                return walk
            self._check_time()
            taken = self._forced_tokens(matcher, longest - len(walk.tokens))
            if taken is None:
                return walk
            if not taken:
                taken = self._choose(matcher, used, walk.tokens[-2:])
                if not taken:
                    return walk
                walk.choices.append(len(walk.tokens))
                used[taken[0]] += 1
            if not self._closers.isdisjoint(taken):
                used.clear()  # a value has ended: what was used for it is new for the next one
            if matcher.try_consume_tokens(taken) < len(taken):
                return walk
            walk.tokens += taken
        walk.closed = len(walk.tokens) <= longest
        return walk

    def _forced_tokens(self, matcher: LLMatcher, longest: int) -> list[int] | None:
        """Tokens of what is forced; None where so many tokens cannot hold it, told before it is
        cut into them."""
        # A byte that no text has begins the name of a special token, which is chosen as one.
        forced = matcher.compute_ff_bytes().partition(b"\xff")[0]
        if len(forced) > longest * self._longest_token:
            return None
        return list(self._vocabulary.tokenizer.tokenize_bytes(forced)) if forced else []

    def _choose(self, matcher: LLMatcher, used: Counter[int], last: list[int]) -> list[int]:
        """The token that closes most, or a sample; none where the grammar has no way on.

        Args:
            matcher: the state.
            used: how often the walk chose a token.
            last: the walk's last two tokens.
        """
        if not self._is_json and (sample := self._fitting_sample(matcher, used)):
            return sample
        # Inside a text, where a letter may follow, a bracket closes nothing.
        is_text = self._letter is not None and matcher.validate_tokens([self._letter]) == 1
        closing = [
            token
            for token in (self._quote if is_text else self._closing)
            if matcher.validate_tokens([token]) == 1
        ]
        for token in closing:
            if last != [token, token]:  # a third quote in a row closes nothing
                return [token]
        if sample := self._fitting_sample(matcher, used):
            return sample
        allowed = self._vocabulary.allowed_tokens(matcher)
        letters = self._vocabulary.letter_tokens
        open_letters = letters[allowed[letters]]
        if not closing and len(open_letters) * 2 > len(letters):  # a text that has to be longer
            return [int(open_letters[0])]
        choices = [token for token in (*self._preferred, *self._singles) if allowed[token]]
        if not choices:  # a special token
            ends = self._vocabulary.ends
            choices = [token for token in allowed.nonzero()[0].tolist() if token not in ends]
        return [min(choices, key=lambda token: used[token])] if choices else []

    def _fitting_sample(self, matcher: LLMatcher, used: Counter[int]) -> list[int]:
        """The first sample that may come next and was not tried; none where none fits."""
        for at, sample in enumerate(self._samples):
            key = -1 - at  # no token's number
            if not used[key] and matcher.validate_tokens(sample) == len(sample):
                used[key] += 1
                return sample
        return []

    def _search_beam(self, matcher: LLMatcher, longest: int) -> list[int] | None:
        """A path by beam search over single bytes."""
        states = [(matcher.deep_copy(), list[int]())]
        steps = 0
        for _ in range(longest):
            following: dict[bytes, tuple[LLMatcher, list[int]]] = {}
            for state, path in states:
                self._check_time()
                allowed = self._vocabulary.allowed_tokens(state)
                for token in self._singles:
                    if not allowed[token] or state.try_consume_tokens([token]) != 1:
                        continue
                    if state.is_accepting():
                        return [*path, token]
                    steps += 1
                    mask = state.compute_bitmask()
                    if mask not in following:
                        following[mask] = (state.deep_copy(), [*path, token])
                    state.rollback(1)
            # Masks that allow less are further on: fewer bytes are left to choose from.
            ranked = sorted(following.items(), key=lambda item: int.from_bytes(item[0]).bit_count())
            states = [state for _, state in ranked[:_BEAM_WIDTH]]
            if not states or steps > _BEAM_STEPS:
                return None
        return None
