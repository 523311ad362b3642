"""Wordings of the questions that documentation answers, and those reserved for measuring.

A model that has seen a fact in one wording alone repeats a wording, not a fact. Training takes the
``trained`` wordings; the ``reserved`` are asked when a model is measured and never trained on, so
no wording may ever move from one to the other without saying so beside the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

QuestionKind = Literal["describe", "module", "parameters"]
QuestionForm = Literal["describe", "about", "topic", "module", "parameters"]
"""Kinds of question, with those that describe told apart by what they describe: a member of a
module, a module, a topic of a page that documents no API."""


class Wordings(NamedTuple):
    """Templates of one form of question; ``{0}`` is what is asked about."""

    trained: tuple[str, ...]
    reserved: tuple[str, ...]


WORDINGS: Mapping[QuestionForm, Wordings] = MappingProxyType(
    {
        "describe": Wordings(
            trained=(
                "What does `{0}` do?",
                "What is `{0}` for?",
                "Describe `{0}`.",
                "Explain what `{0}` does.",
                "What is `{0}`?",
                "Tell me about `{0}`.",
            ),
            reserved=(
                "What can I use `{0}` for?",
                "Summarize `{0}`.",
                "Give a short description of `{0}`.",
            ),
        ),
        "about": Wordings(
            trained=(
                "What is the module `{0}` about?",
                "What does the module `{0}` provide?",
                "Describe the module `{0}`.",
                "What is the module `{0}` for?",
            ),
            reserved=(
                "What can I use the module `{0}` for?",
                "Summarize the module `{0}`.",
            ),
        ),
        "topic": Wordings(
            trained=(
                'What does the documentation say about "{0}"?',
                'Explain "{0}".',
                'What should I know about "{0}"?',
                'Tell me about "{0}".',
            ),
            reserved=(
                'Summarize "{0}".',
                'What is there to say about "{0}"?',
            ),
        ),
        "module": Wordings(
            trained=(
                "Which module holds `{0}`?",
                "Where do I find `{0}`?",
                "What module is `{0}` in?",
                "Where is `{0}`?",
                "Which module do I import `{0}` from?",
                "Name the module of `{0}`.",
            ),
            reserved=(
                "In which module is `{0}` defined?",
                "Where can I import `{0}` from?",
                "Tell me the module that contains `{0}`.",
            ),
        ),
        "parameters": Wordings(
            trained=(
                "What are the parameters of `{0}`?",
                "Which arguments does `{0}` take?",
                "What do I pass to `{0}`?",
                "List the parameters of `{0}`.",
                "How do I call `{0}`?",
                "Which parameters does `{0}` have?",
            ),
            reserved=(
                "What arguments does `{0}` accept?",
                "Name all parameters of `{0}`.",
                "Which parameters can I give to `{0}`?",
            ),
        ),
    }
)


def word_question(form: QuestionForm, subject: str, shown: str) -> tuple[list[str], list[str]]:
    """The questions about a subject in (trained, reserved) wordings.

    Each list begins where the subject's digest says and goes round, so that the first of all
    subjects are of all wordings.

    Args:
        form: kind of question, by what it describes.
        subject: thing that is asked about, by which the order is drawn.
        shown: the subject as the question writes it.
    """
    drawn = hashlib.sha256(f"{form}\0{subject}".encode(errors="surrogatepass")).digest()[0]
    both = WORDINGS[form]
    trained, reserved = (
        [wordings[(drawn + turn) % len(wordings)].format(shown) for turn in range(len(wordings))]
        for wordings in both
    )
    return trained, reserved
