"""Exact facts: does a model name the right module, and a function's parameters, all and no other?

    modelmill stage facts --input model=PATH --input instructions=PATH --input tokenizer=PATH \\
        --output DIR

Three groups of questions tell three things apart: ``trained``, as they were fine-tuned on (what is
remembered); ``reworded``, the same facts in wordings never trained on (what is known beyond a
wording); ``heldout``, of pages never trained on (what is inferred). Answers are greedy. Everything
is drawn by digest, so a corpus in which a few pages changed asks most facts again.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from components.core.errors import ConfigError
from components.core.stats.figures import Figure, ratio_interval
from components.core.stats.report_config import ReportConfig
from components.core.stats.report_items import Items, item_keys, write_items
from components.core.store.artifact import Checkpoint, Instructions, Report, Tokenizer
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import Answer, Row, answer_all, read_instructions
from components.text.chat.chat_template import open_tokenizer, prompt_ids
from components.text.chat.question_wordings import Kind
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model
from components.text.heldout_split import Half

if TYPE_CHECKING:
    import tokenizers

    from models.decoder import Decoder

Group = Literal["trained", "reworded", "heldout"]
GROUPS: tuple[Group, ...] = ("trained", "reworded", "heldout")
KINDS: tuple[Kind, ...] = ("module", "parameters", "describe")
"""In the order that examples show them; a description is never exact, so it has no figure."""
FIGURES = tuple(
    name
    for group in GROUPS
    for name in (f"{group}_modules", f"{group}_parameters", f"{group}_some_parameters", group)
)
"""By group: shares of its kinds, then the group's own, the mean of modules and parameter lists."""

_MODULE = re.compile(r"\bmodule `([^`]+)`")
_NO_PARAMETERS = re.compile(r"\btakes no parameters\b")
_PARAMETERS = re.compile(r"\btakes (?:one parameter|\d+ parameters): (.+)", re.DOTALL)
_NAME = re.compile(r"`([^`]+)`")
_BETWEEN = re.compile(r"(?:\s|,|\.|\band\b)*")


class FactsConfig(ReportConfig):
    """Number of facts asked for, and the decoding of their answers."""

    figures: ClassVar = FIGURES

    facts: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="facts of each kind (modules, parameter lists) in each group, at most",
    )
    max_new: int = Field(default=128, ge=1, le=4096, description="tokens an answer, at most")
    batch: int = Field(default=128, ge=1, description="questions answered at once")
    examples: int = Field(
        default=3, ge=0, le=100, description="questions of either side shown with their answers"
    )
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the draw of facts")


@dataclass(frozen=True)
class Fact:
    """One question with the answer of the documentation and its prompt."""

    page: str
    group: Group
    kind: Kind
    subject: str
    question: str
    reference: str
    prompt: tuple[int, ...]
    has_parameters: bool


def evaluate_facts(
    config: FactsConfig,
    model: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Report:
    """Report the share of exact answers by group and kind, intervals over resampled pages.

    A corpus that documents no module gives a report of examples without these figures. Pages of
    the half that reports are asked about, trained and held out.

    Args:
        config: how many facts, and how they are answered.
        model: the decoder to measure.
        instructions: what it was fine-tuned on, and held-out questions.
        tokenizer: that of the model.
        work: where the report goes.

    Raises:
        ConfigError: ``max_new`` leaves no room in the model's context, or the model is of
            another tokenizer.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "facts", record_of_model(work.path(model)), record_of_tokenizer(work.path(tokenizer))
    )
    opened = open_tokenizer(work.path(tokenizer))
    decoder = load_model(work.path(model))
    longest = decoder.shape.context - config.max_new
    if longest < 1:
        raise ConfigError(
            f"facts.max_new ({config.max_new}) leaves no room for a question in the model's "
            f"context of {decoder.shape.context}: lower it"
        )
    folder = work.path(instructions)
    facts = draw_facts(config, folder, opened, longest=longest, half="reporting")
    work.progress.start(len(facts), "answers")
    answers = answer_facts(config, decoder, opened, facts, work.progress.advance)
    exact = [is_exact(fact, answer.text) for fact, answer in zip(facts, answers, strict=True)]
    figures = exact_figures(facts, exact)
    config.write_report(work.folder, figures, examples=_examples(config, facts, answers, exact))
    write_items(work.folder, fact_items(config, facts, exact))
    means = [figure for figure in figures if figure.name in GROUPS]
    stats = {figure.name: figure.value for figure in (*means, *figures)}
    return work.seal(Report, stats=stats or {"asked": float(len(facts))})


def draw_facts(
    config: FactsConfig,
    folder: Path,
    tokenizer: tokenizers.Tokenizer,
    *,
    longest: int,
    half: Half | None,
) -> list[Fact]:
    """At most ``config.facts`` of each kind and group; ``trained`` and ``reworded`` are the same.

    Some descriptions come with them, for the examples; they count in no figure. There may be no
    fact at all.

    Args:
        config: how many.
        folder: that of ``Instructions``.
        tokenizer: makes the prompts.
        longest: questions of a longer prompt, in tokens, are left out.
        half: only pages of this half, training pages too; None takes both.

    Raises:
        DataError: a file or a column is missing.
    """
    facts: list[Fact] = []
    sides: list[tuple[Group, list[Row]]] = [
        ("trained", read_instructions(folder, "train", half)),
        ("heldout", read_instructions(folder, "heldout", half)),
    ]
    for group, rows in sides:
        ranked = sorted(rows, key=lambda row: _rank(config.seed, row))
        for kind in KINDS:
            limit = config.examples if kind == "describe" else config.facts
            drawn = _facts_of(ranked, group, kind, tokenizer, longest)
            for _, both in zip(range(limit), drawn, strict=False):
                facts.extend(both)
    return facts


def answer_facts(
    config: FactsConfig,
    model: Decoder,
    tokenizer: tokenizers.Tokenizer,
    facts: Sequence[Fact],
    answered: Callable[[int], None] = lambda count: None,
) -> list[Answer]:
    """The model's likeliest answer to each fact's question, in their order.

    Args:
        config: tokens an answer, questions at once.
        model: the decoder asked.
        tokenizer: turns tokens into text.
        facts: the questions.
        answered: told how many answers came with each batch.
    """
    return answer_all(
        model,
        tokenizer,
        [fact.prompt for fact in facts],
        max_new=config.max_new,
        temperature=0,
        seed=config.seed,
        batch=config.batch,
        answered=answered,
    )


def is_exact(fact: Fact, text: str) -> bool:
    """Whether an answer names the fact: the right module and no other, all parameters in order.

    A description is exact when it is the documentation's, word for word.
    """
    if fact.kind == "module":
        named = module_named(text)
        return named is not None and named == module_named(fact.reference)
    if fact.kind == "parameters":
        listed = parameters_listed(text)
        return listed is not None and listed == parameters_listed(fact.reference)
    return text.split() == fact.reference.split()


def module_named(text: str) -> str | None:
    """The one module that an answer names; None where it names none or several."""
    named = set(_MODULE.findall(text))
    return named.pop() if len(named) == 1 else None


def parameters_listed(text: str) -> tuple[str, ...] | None:
    """Names of the parameters an answer lists, in its order; None where it is no such list."""
    none, some = _NO_PARAMETERS.search(text), _PARAMETERS.search(text)
    if (none is None) == (some is None):
        return None
    if some is None:
        return ()
    names = tuple(_NAME.findall(some[1]))
    rest = _NAME.sub("", some[1])
    return names if names and _BETWEEN.fullmatch(rest) else None


def exact_figures(facts: Sequence[Fact], exact: Sequence[bool]) -> list[Figure]:
    """Shares of exact answers; a group's own figure is the mean of modules and parameter lists.

    Args:
        facts: what was asked.
        exact: whether each was answered exactly.
    """
    figures: list[Figure] = []
    for name in FIGURES:
        figures.extend(_figure(name, facts, exact, _belongs(name, facts)))
    return figures


def _belongs(name: str, facts: Sequence[Fact]) -> list[float]:
    """What each fact weighs in a figure. In that of a group, kinds weigh alike."""
    group, _, part = name.partition("_")
    of_group = [fact if fact.group == group else None for fact in facts]
    if part:
        kind = "module" if part == "modules" else "parameters"
        some = part == "some_parameters"
        return [
            float(fact is not None and fact.kind == kind and (fact.has_parameters or not some))
            for fact in of_group
        ]
    counts = {kind: sum(f is not None and f.kind == kind for f in of_group) for kind in KINDS[:2]}
    return [
        1.0 / counts[fact.kind] if fact is not None and fact.kind in counts else 0.0
        for fact in of_group
    ]


def _figure(
    name: str, facts: Sequence[Fact], exact: Sequence[bool], weights: Sequence[float]
) -> list[Figure]:
    """A weighed share with its interval from resampled pages; none where nothing weighs."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for fact, right, weight in zip(facts, exact, weights, strict=True):
        if weight:
            sums[fact.page][0] += weight * right
            sums[fact.page][1] += weight
    if not sums:
        return []
    above, below = zip(*sums.values(), strict=True)
    return [ratio_interval(above, below, name=name)]


def fact_items(config: FactsConfig, facts: Sequence[Fact], exact: Sequence[bool]) -> Items:
    """1 for an exact answer, 0 for another, no number in figures that the fact is none of.

    A fact is the same where its reference is, and its answer may be as long. In the figure of a
    group, which weighs kinds alike, facts weigh alike here: a weight that hangs on how many facts
    there are would differ between two versions, and pair nothing.

    Args:
        config: tokens an answer.
        facts: what was asked.
        exact: whether each was answered exactly.
    """
    names = [figure.name for figure in exact_figures(facts, exact)]
    measured = {name: _belongs(name, facts) for name in names}
    asked = [[fact.group, fact.question, fact.reference, config.max_new] for fact in facts]
    return Items(
        item_keys(asked),
        [fact.page for fact in facts],
        np.ones(len(facts)),
        {
            name: np.where(np.array(weights) > 0, np.array(exact, dtype=np.float64), np.nan)
            for name, weights in measured.items()
        },
    )


def _examples(
    config: FactsConfig, facts: Sequence[Fact], answers: Sequence[Answer], exact: Sequence[bool]
) -> list[dict[str, Any]]:
    """Of held-out and of training pages, of each kind in turn, in the order of the draw."""
    shown: list[int] = []
    for group in ("heldout", "trained"):
        by_kind = [
            [at for at, fact in enumerate(facts) if fact.group == group and fact.kind == kind]
            for kind in KINDS
        ]
        turns = range(max(map(len, by_kind)))
        mixed = [places[turn] for turn in turns for places in by_kind if turn < len(places)]
        shown.extend(mixed[: config.examples])
    return [
        {
            "group": facts[at].group,
            "kind": facts[at].kind,
            "question": facts[at].question,
            "reference": facts[at].reference,
            "answer": answers[at].text,
            "exact": exact[at],
        }
        for at in shown
    ]


def _facts_of(
    ranked: Sequence[Row],
    group: Group,
    kind: Kind,
    tokenizer: tokenizers.Tokenizer,
    longest: int,
) -> Iterator[list[Fact]]:
    """The facts of a kind as they are asked: one of training pages in both wordings at once."""
    for row in ranked:
        if row["kind"] != kind or not _is_readable(row):
            continue
        asked: list[tuple[Group, str]] = [(group, row["question"])]
        # Instructions that somebody else wrote have no wordings that were kept apart.
        if group == "trained" and kind != "describe" and row.get("reworded"):
            asked.append(("reworded", row["reworded"][0]))
        made = [
            Fact(
                page=row["id"],
                group=of,
                kind=kind,
                subject=row["subject"],
                question=question,
                reference=row["answer"],
                prompt=tuple(prompt_ids(tokenizer, [("user", question)])),
                has_parameters=kind == "parameters" and bool(parameters_listed(row["answer"])),
            )
            for of, question in asked
        ]
        if all(len(fact.prompt) <= longest for fact in made):
            yield made


def _is_readable(row: Row) -> bool:
    """Whether the reference itself is a fact in the form that answers are read in."""
    if row["kind"] == "module":
        return module_named(row["answer"]) is not None
    return row["kind"] != "parameters" or parameters_listed(row["answer"]) is not None


def _rank(seed: int, row: Row) -> bytes:
    parts = (str(seed), row["kind"], row["subject"], row["answer"])
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
