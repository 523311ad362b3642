"""Exact-match evaluation of facts: a function's module, and the full list of its parameters.

    modelmill stage facts --input model=PATH --input instructions=PATH --input tokenizer=PATH \\
        --output DIR

Three groups of questions tell recall from generalisation: ``trained``, as they were fine-tuned on;
``reworded``, the same facts in wordings never trained on; ``heldout``, facts of pages never trained
on. Answers are greedy. Everything is drawn by digest, so a corpus in which a few pages changed asks
most facts again.
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
from components.core.stats.report_items import ReportItems, item_keys, write_items
from components.core.store.artifact import Checkpoint, Instructions, Report, Tokenizer
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import ModelAnswer, Row, read_instructions, sample_answers
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.question_wordings import QuestionKind
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model
from components.text.heldout_split import Half

if TYPE_CHECKING:
    from models.decoder import Decoder

FactGroup = Literal["trained", "reworded", "heldout"]
FACT_GROUPS: tuple[FactGroup, ...] = ("trained", "reworded", "heldout")
FACT_KINDS: tuple[QuestionKind, ...] = ("module", "parameters", "describe")
"""In the order that examples show them; a description is never exact, so it has no figure."""
FIGURES = tuple(
    name
    for group in FACT_GROUPS
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
    max_new: int = Field(default=128, ge=1, le=4096, description="longest answer, in tokens")
    batch: int = Field(default=128, ge=1, description="questions in a batch")
    examples: int = Field(
        default=3, ge=0, le=100, description="questions of either side shown with their answers"
    )
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="seed of the draw of facts")


@dataclass(frozen=True)
class Fact:
    """A question about a fact, the documentation's answer, and the prompt's tokens."""

    page: str
    group: FactGroup
    kind: QuestionKind
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
        instructions: instructions it was fine-tuned on, and held-out questions.
        tokenizer: tokenizer of the model.
        work: where the report goes.

    Raises:
        ConfigError: ``max_new`` leaves no room in the model's context, or the model is of
            another tokenizer.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "facts",
        record_of_model(work.artifact_folder(model)),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    decoder = load_model(work.artifact_folder(model))
    longest_prompt = decoder.shape.context - config.max_new
    if longest_prompt < 1:
        raise ConfigError(
            f"facts.max_new ({config.max_new}) leaves no room for a question in the model's "
            f"context of {decoder.shape.context}: lower it"
        )
    folder = work.artifact_folder(instructions)
    facts = draw_facts(config, folder, fast_tokenizer, longest=longest_prompt, half="reporting")
    work.progress.start_count(len(facts), "answers")
    answers = answer_facts(config, decoder, fast_tokenizer, facts, work.progress.advance)
    exact = [
        is_exact_answer(fact, answer.text) for fact, answer in zip(facts, answers, strict=True)
    ]
    figures = exact_figures(facts, exact)
    config.write_report(work.folder, figures, examples=_examples(config, facts, answers, exact))
    write_items(work.folder, fact_items(config, facts, exact))
    means = [figure for figure in figures if figure.name in FACT_GROUPS]
    stats = {figure.name: figure.value for figure in (*means, *figures)}
    return work.seal(Report, stats=stats or {"asked": float(len(facts))})


def draw_facts(
    config: FactsConfig,
    folder: Path,
    tokenizer: ChatTokenizer,
    *,
    longest: int,
    half: Half | None,
) -> list[Fact]:
    """Draw at most ``config.facts`` of each kind and group; ``reworded`` are those of ``trained``.

    Some descriptions come with them, for the examples; they count in no figure. There may be no
    fact at all.

    Args:
        config: how many.
        folder: folder of sealed ``Instructions``.
        tokenizer: makes the prompts.
        longest: questions of a longer prompt, in tokens, are left out.
        half: only pages of this half, training pages too; None takes both.

    Raises:
        DataError: a file or a column is missing.
    """
    facts: list[Fact] = []
    sides: list[tuple[FactGroup, list[Row]]] = [
        ("trained", read_instructions(folder, "train", half)),
        ("heldout", read_instructions(folder, "heldout", half)),
    ]
    for group, rows in sides:
        ranked = sorted(rows, key=lambda row: _draw_rank(config.seed, row))
        for kind in FACT_KINDS:
            limit = config.examples if kind == "describe" else config.facts
            drawn = _facts_of_kind(ranked, group, kind, tokenizer, longest)
            for _, both in zip(range(limit), drawn, strict=False):
                facts.extend(both)
    return facts


def answer_facts(
    config: FactsConfig,
    model: Decoder,
    tokenizer: ChatTokenizer,
    facts: Sequence[Fact],
    answered: Callable[[int], None] = lambda count: None,
) -> list[ModelAnswer]:
    """Greedy answers to the facts' questions, in their order.

    Args:
        config: tokens an answer, questions at once.
        model: the decoder asked.
        tokenizer: turns tokens into text.
        facts: the questions.
        answered: told how many answers came with each batch.
    """
    return sample_answers(
        model,
        tokenizer,
        [fact.prompt for fact in facts],
        max_new=config.max_new,
        temperature=0,
        seed=config.seed,
        batch=config.batch,
        report_answered=answered,
    )


def is_exact_answer(fact: Fact, text: str) -> bool:
    """Check that an answer names the right module and no other, or all parameters in order.

    A description is exact when it is the documentation's, word for word.
    """
    if fact.kind == "module":
        module = extract_module(text)
        return module is not None and module == extract_module(fact.reference)
    if fact.kind == "parameters":
        parameters = extract_parameters(text)
        return parameters is not None and parameters == extract_parameters(fact.reference)
    return text.split() == fact.reference.split()


def extract_module(text: str) -> str | None:
    """Name of the one module in an answer; None where it names none or several."""
    modules = set(_MODULE.findall(text))
    return modules.pop() if len(modules) == 1 else None


def extract_parameters(text: str) -> tuple[str, ...] | None:
    """Parameter names that an answer lists, in its order; None where it is no such list."""
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
        facts: questions that were asked.
        exact: whether each was answered exactly.
    """
    figures: list[Figure] = []
    for name in FIGURES:
        figures.extend(_share_figure(name, facts, exact, _figure_weights(name, facts)))
    return figures


def _figure_weights(name: str, facts: Sequence[Fact]) -> list[float]:
    """Weight of each fact in a figure; in the figure of a group, kinds have equal weight."""
    group, _, part = name.partition("_")
    group_facts = [fact if fact.group == group else None for fact in facts]
    if part:
        kind = "module" if part == "modules" else "parameters"
        some = part == "some_parameters"
        return [
            float(fact is not None and fact.kind == kind and (fact.has_parameters or not some))
            for fact in group_facts
        ]
    counts = {
        kind: sum(f is not None and f.kind == kind for f in group_facts) for kind in FACT_KINDS[:2]
    }
    return [
        1.0 / counts[fact.kind] if fact is not None and fact.kind in counts else 0.0
        for fact in group_facts
    ]


def _share_figure(
    name: str, facts: Sequence[Fact], exact: Sequence[bool], weights: Sequence[float]
) -> list[Figure]:
    """Weighted share with its interval from resampled pages; none where all weights are 0."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for fact, right, weight in zip(facts, exact, weights, strict=True):
        if weight:
            sums[fact.page][0] += weight * right
            sums[fact.page][1] += weight
    if not sums:
        return []
    above, below = zip(*sums.values(), strict=True)
    return [ratio_interval(above, below, name=name)]


def fact_items(config: FactsConfig, facts: Sequence[Fact], exact: Sequence[bool]) -> ReportItems:
    """Items of facts: 1 for an exact answer, 0 for another, NaN in figures without the fact.

    A fact is the same where its reference is, and its answer may be as long. In the figure of a
    group, which weighs kinds alike, facts weigh alike here: a weight that hangs on how many facts
    there are would differ between two versions, and pair nothing.

    Args:
        config: tokens an answer.
        facts: questions that were asked.
        exact: whether each was answered exactly.
    """
    names = [figure.name for figure in exact_figures(facts, exact)]
    measured = {name: _figure_weights(name, facts) for name in names}
    identities = [[fact.group, fact.question, fact.reference, config.max_new] for fact in facts]
    return ReportItems(
        item_keys(identities),
        [fact.page for fact in facts],
        np.ones(len(facts)),
        {
            name: np.where(np.array(weights) > 0, np.array(exact, dtype=np.float64), np.nan)
            for name, weights in measured.items()
        },
    )


def _examples(
    config: FactsConfig,
    facts: Sequence[Fact],
    answers: Sequence[ModelAnswer],
    exact: Sequence[bool],
) -> list[dict[str, Any]]:
    """Examples of held-out and of training pages, kind by kind in turn, in the order drawn."""
    chosen: list[int] = []
    for group in ("heldout", "trained"):
        by_kind = [
            [index for index, fact in enumerate(facts) if fact.group == group and fact.kind == kind]
            for kind in FACT_KINDS
        ]
        turns = range(max(map(len, by_kind)))
        mixed = [places[turn] for turn in turns for places in by_kind if turn < len(places)]
        chosen.extend(mixed[: config.examples])
    return [
        {
            "group": facts[index].group,
            "kind": facts[index].kind,
            "question": facts[index].question,
            "reference": facts[index].reference,
            "answer": answers[index].text,
            "exact": exact[index],
        }
        for index in chosen
    ]


def _facts_of_kind(
    ranked: Sequence[Row],
    group: FactGroup,
    kind: QuestionKind,
    tokenizer: ChatTokenizer,
    longest: int,
) -> Iterator[list[Fact]]:
    """Facts of a kind; one of training pages comes in both wordings at once."""
    for row in ranked:
        if row["kind"] != kind or not _has_readable_reference(row):
            continue
        wordings: list[tuple[FactGroup, str]] = [(group, row["question"])]
        # Instructions that somebody else wrote have no wordings that were kept apart.
        if group == "trained" and kind != "describe" and row.get("reworded"):
            wordings.append(("reworded", row["reworded"][0]))
        facts = [
            Fact(
                page=row["id"],
                group=of,
                kind=kind,
                subject=row["subject"],
                question=question,
                reference=row["answer"],
                prompt=tuple(tokenizer.encode_question(question)),
                has_parameters=kind == "parameters" and bool(extract_parameters(row["answer"])),
            )
            for of, question in wordings
        ]
        if all(len(fact.prompt) <= longest for fact in facts):
            yield facts


def _has_readable_reference(row: Row) -> bool:
    """True where the reference parses by the rules that answers are parsed by."""
    if row["kind"] == "module":
        return extract_module(row["answer"]) is not None
    return row["kind"] != "parameters" or extract_parameters(row["answer"]) is not None


def _draw_rank(seed: int, row: Row) -> bytes:
    parts = (str(seed), row["kind"], row["subject"], row["answer"])
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
