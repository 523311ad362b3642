"""The statistics of a document as plain Python says them: what the kernel must agree with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from components.text.markdown_sections import without_fences
from components.text.word_splitting import STOP_WORDS

_BULLET = re.compile(r"\s*(?:[-*+•‣▪●]\s|\d{1,3}[.)]\s)")
_HEADING = re.compile(r"#{1,6}\s+")
_TERMINAL = (".", "!", "?", '"', "”", "。", "！", "？")
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U00031fff]"
)
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_STRIP = "#*_`()[]{}<>.,:;!?\"'"


def reference_statistics(text: str, short_line: int) -> dict[str, float]:
    """Every column of the kernel."""
    outside = without_fences(text)
    words = outside.split()
    lines = [stripped for line in outside.split("\n") if (stripped := line.strip())]
    paragraphs = [p for part in _PARAGRAPHS.split(outside) if (p := part.strip())]
    marks = sum(len(match[0].rstrip()) for line in lines if (match := _HEADING.match(line)))
    symbols = outside.count("#") - marks + outside.count("...") + outside.count("…")
    lower = outside.lower()
    return {
        "words": len(words),
        "lines": len(lines),
        "sentences": len(_SENTENCE.findall(outside)),
        "stop_words": len({word.strip(_STRIP).lower() for word in words} & set(STOP_WORDS)),
        "curly_braces": text.count("{") + text.count("}"),
        "lorem_ipsum": lower.count("lorem ipsum"),
        "javascript": lower.count("javascript"),
        "mean_word_length": _share(sum(map(len, words)), len(words)),
        "symbol_ratio": _share(symbols, len(words)),
        "bullet_lines": _share(sum(1 for line in lines if _BULLET.match(line)), len(lines)),
        "ellipsis_lines": _share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "alphabetic_words": _share(sum(any(map(str.isalpha, w)) for w in words), len(words)),
        "punctuated_lines": _share(sum(line.endswith(_TERMINAL) for line in lines), len(lines)),
        "short_lines": _share(sum(len(line) < short_line for line in lines), len(lines)),
        "code_share": _share(len(text) - len(outside), len(text)),
        "non_ascii": _share(sum(ord(character) > 127 for character in text), len(text)),
        "unspaced": _share(len(_UNSPACED.findall(text)), len(text)),
        **_repeats("line", lines),
        **_repeats("paragraph", paragraphs),
        **{f"top_{size}gram": _top(words, size) for size in (2, 3, 4)},
        **{f"duplicate_{size}gram": _duplicate(words, size) for size in range(5, 11)},
    }


def _repeats(what: str, parts: Sequence[str]) -> dict[str, float]:
    counts = Counter(parts)
    characters = sum((count - 1) * len(part) for part, count in counts.items())
    return {
        f"duplicate_{what}s": _share(len(parts) - len(counts), len(parts)),
        f"duplicate_{what}_characters": _share(characters, sum(map(len, parts))),
    }


def _top(words: Sequence[str], size: int) -> float:
    counts = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    again = [(n, n * sum(map(len, gram))) for gram, n in counts.items() if n > 1]
    return _share(max(again)[1] if again else 0, sum(map(len, words)))


def _duplicate(words: Sequence[str], size: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i in range(len(words) - size + 1):
        gram = tuple(words[i : i + size])
        if gram in seen:
            covered.update(range(i, i + size))
        seen.add(gram)
    return _share(sum(len(words[i]) for i in covered), sum(map(len, words)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
