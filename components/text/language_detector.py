"""Language detection by py3langid, and its extension by languages learnt from a user's lines.

py3langid is naive Bayes over some 100,000 byte n-grams, chosen to tell languages and not subjects
apart (Lui & Baldwin 2011, Cross-domain Feature Selection for Language Identification). A language
is a column of log-probabilities of these n-grams, so a further one is learnt by counting.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

NO_LANGUAGE = "zxx"
"""The detector's class of numbers, markup and identifiers (ISO 639: no linguistic content)."""
_BACKGROUND = 0.3
"""Weight, in a learnt language, of the n-grams that all built-in languages have in common: what few
lines do not show is as likely as elsewhere, not impossible (Dirichlet prior, Zhai & Lafferty 2004).
Macro-F1 of 24 languages learnt from some 25 lines each: 0.903 at 0.02, 0.955 at 0.4, 0.940 at 0.8.
"""
_MOST_BYTES = 400
"""Bytes of a text that are counted as one: as long as what is told apart, since repeats within one
text count by their logarithm."""


@dataclass(frozen=True)
class LearntLanguages:
    """Columns of log-probabilities, one a language, over the n-grams of py3langid."""

    codes: tuple[str, ...]
    """Sorted."""
    likelihoods: NDArray[np.float16]
    """[n-grams, languages] natural logarithms of probabilities."""

    def to_safetensors(self) -> bytes:
        """Bytes of a safetensors file."""
        from safetensors.numpy import save

        metadata = {"codes": json.dumps(self.codes)}
        return save({"likelihoods": self.likelihoods}, metadata=metadata)

    @classmethod
    def from_safetensors(cls, held: bytes) -> LearntLanguages:
        """Languages that ``to_safetensors`` wrote."""
        from safetensors.numpy import load

        length = int.from_bytes(held[:8], "little")
        codes = json.loads(json.loads(held[8 : 8 + length])["__metadata__"]["codes"])
        return cls(tuple(codes), load(held)["likelihoods"])


class LanguageDetector:
    """Probability of each language that a text may be in."""

    def __init__(self, learnt: LearntLanguages | None = None, *, builtin: bool = True) -> None:
        """Lay learnt languages beside the built-in ones.

        Args:
            learnt: Languages of the user's; one that is built in too gets a second column.
            builtin: False for the learnt languages alone.
        """
        base = _load_builtin()
        likelihoods, priors, codes = base.nb_ptc, base.nb_pc, list(base.nb_classes)
        if learnt is not None:
            kept = slice(None) if builtin else slice(0)
            likelihoods = np.concatenate([likelihoods[:, kept], learnt.likelihoods], axis=1)
            own = np.full(len(learnt.codes), priors.mean(), dtype=priors.dtype)
            priors = np.concatenate([priors[kept], own])
            codes = [*codes[kept], *learnt.codes]
        self._identifier = LanguageIdentifier(
            likelihoods,
            priors,
            codes,
            base.tk_nextmove,
            base.tk_output,
            norm_probs=True,
            tk_row=base.tk_row,
        )
        self.codes: tuple[str, ...] = tuple(sorted(set(codes)))

    def rank_languages(self, text: str) -> list[tuple[str, float]]:
        """(code, probability) of every language, likeliest first."""
        ranked: list[tuple[str, float]] = self._identifier.rank(text)
        return ranked

    def detect_language(self, text: str) -> str:
        """Code of the likeliest language."""
        return self.rank_languages(text)[0][0]


def learn_languages(lines: Mapping[str, Sequence[str]]) -> LearntLanguages:
    """Learn languages from lines of each (code -> lines), by counting."""
    base = _load_builtin()
    row_starts = [row << 8 for row in base.tk_row]
    background = np.exp(base.nb_ptc.astype(np.float64)).mean(axis=1)
    background /= background.sum()
    codes = tuple(sorted(lines))
    likelihoods = np.empty((len(background), len(codes)), dtype=np.float16)
    for column, code in enumerate(codes):
        counts = np.zeros(len(background))
        for line in lines[code]:
            for at, number in _count_ngrams(base, row_starts, line):
                counts[at] += number
        share = counts / max(1.0, counts.sum())
        likelihoods[:, column] = np.log(
            (share + _BACKGROUND * background) / (share.sum() + _BACKGROUND)
        )
    return LearntLanguages(codes, likelihoods)


def _count_ngrams(
    base: LanguageIdentifier, row_starts: Sequence[int], line: str
) -> list[tuple[int, float]]:
    """(n-gram, log(1 + count)) of each stretch of a line, as the detector itself weighs a text."""
    folded = line.lower() if line.isupper() else line
    held = unicodedata.normalize("NFC", folded).encode(errors="replace")
    counted: list[tuple[int, float]] = []
    for at in range(0, len(held), _MOST_BYTES):
        stretch = held[at : at + _MOST_BYTES]
        visits = visit_counts(base.tk_nextmove, row_starts, base.tk_output, stretch) or {}
        counted += [(ngram, float(np.log1p(count))) for ngram, count in sorted(visits.items())]
    return counted


@lru_cache(maxsize=1)
def _load_builtin() -> LanguageIdentifier:
    """The model that py3langid ships; 0.7 s and 100 MB, once a process."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
