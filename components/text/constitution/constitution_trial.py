"""Trial of a constitution: every check on fixed texts, before hours are spent on answers.

A check that raises, never ends or scores outside [0, 1] would stop a run after its training. The
texts are what models under training really say, and worse: nothing at all, one letter for ever,
thousands of words, signs of many scripts, and the letters of the check's own patterns repeated,
on which a pattern that backtracks without end shows it (Davis et al. 2018, "The impact of regular
expression denial of service in practice").
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from components.core.errors import ConfigError, typed_error_line
from components.core.process.child_programs import run_program
from components.text.constitution.answer_checks import AnswerCase, Check, FormCheck
from components.text.constitution.pattern_trial import PATTERN_SECONDS
from components.text.constitution.principles import Constitution

_PROGRAM = Path(__file__).with_name("pattern_trial.py")
_LONG = 16_000
"""Characters: about what 4,096 tokens come to, the longest answer that can be asked for."""
_QUESTIONS = (
    "What does `json.dumps` do?",
    "Which module holds `dumps`?",
    "What are the parameters of `json.dumps`?",
    'What does the documentation say about "Caution"?',
    "",
)
_SENTENCE = "`dumps` serializes `obj` to a JSON formatted `str`, see json.JSONEncoder (RFC 7159). "
_TEXTS = (
    "",
    " ",
    "\n\n\t",
    _SENTENCE,
    (_SENTENCE * (_LONG // len(_SENTENCE) + 1))[:_LONG],
    "word " * (_LONG // 5) + "!",
    *(sign * 3000 + "!" for sign in "aA0 `._-("),
    *(pair * 1500 + "!" for pair in ("a ", "a.", "ab", "1,", "_x", "''", "[]")),
    "\0\x07\x1b[31m\r\ufeff\ufffd",
    "İıſ ß ﬁ ٣ ３ Ⅷ ²",  # case foldings that change a length, digits that int() does not read
    "e\u0301\u0323\u200d\u2066 👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "בראשית ברא אלהים、人人生而自由。",
)


def try_constitution(constitution: Constitution, field: str) -> None:
    """Score the fixed texts by every principle, and search them for every pattern.

    Args:
        constitution: constitution to try.
        field: field of the run's config that holds it; named in the error.

    Raises:
        ConfigError: a check raises, scores outside [0, 1], or holds a pattern that takes longer
            than ``PATTERN_SECONDS``; names the principle.
    """
    patterns: list[tuple[str, str]] = []
    for principle in constitution.principles:
        if isinstance(principle.check, FormCheck):
            expressions = {
                p for f in principle.check.forms for p in (f.asked, f.says, f.avoids) if p
            }
            patterns += [(principle.name, pattern) for pattern in sorted(expressions)]
    slow = _find_slow_pattern([pattern for _, pattern in patterns])
    if slow is not None:
        name, pattern = patterns[slow]
        raise ConfigError(
            f"{field}: principle {name!r}: pattern {pattern!r} takes longer than "
            f"{PATTERN_SECONDS} s on a trial text: write it without a repetition of what can "
            "match in two ways, such as (a+)+ or (a|aa)+"
        )
    for principle in constitution.principles:
        try:
            _try_check(principle.check)
        except Exception as error:
            raise ConfigError(
                f"{field}: principle {principle.name!r}: its check ({principle.check.kind}) fails "
                f"on a trial text with {typed_error_line(error)}"
            ) from error


def _find_slow_pattern(patterns: list[str]) -> int | None:
    """Index of the first pattern that does not come to an end in time; None where all do.

    Raises:
        ConfigError: a pattern fails otherwise.
    """
    if not patterns:
        return None
    content = json.dumps({"patterns": patterns, "texts": [_texts_for(p) for p in patterns]})
    # No limit of wall time: on a machine that others keep busy it would blame a good pattern.
    trial = run_program([sys.executable, "-I", str(_PROGRAM)], text=content)
    tried = len(trial.output.split()) - 1
    if trial.exit_code > 0:
        line = trial.last_line()
        raise ConfigError(f"pattern {patterns[tried]!r} fails on a trial text: {line}")
    return tried if trial.exit_code < 0 else None


def _texts_for(pattern: str) -> list[str]:
    """The fixed texts, and the pattern's own letters again and again with an end that differs."""
    own = re.sub(r"\\.|[^\w ]", "", pattern)
    repeated = [f"{(own * 500)[:3000]}!", *(f"{sign * 3000}!" for sign in sorted(set(own)))]
    return [*_TEXTS, *repeated]


def _try_check(check: Check) -> None:
    reference = _SENTENCE.strip()
    for text in _TEXTS:
        # What a form asks for hangs on the question; every other check hardly reads it.
        for question in (*_QUESTIONS, text) if isinstance(check, FormCheck) else _QUESTIONS[:1]:
            case = AnswerCase(question, "json.dumps", text, reference, finished=bool(text))
            score = check.score(case)
            if not 0 <= score <= 1:  # NaN too
                raise ValueError(f"a score of {score}, which must lie between 0 and 1")
    check.score(AnswerCase(_QUESTIONS[0], "", "", ""))
