"""Four-choice accuracy on held-out pages: the description that belongs to a function.

Candidates are the right description and three of other held-out subjects. The model never sees
them side by side: each is scored as its answer, and by default by how much the question raises
its probability over that behind a neutral question (pointwise mutual information, Holtzman et al.
2021, arXiv:2104.08315), since a description that is likely anywhere says nothing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.core.log import get_logger
from components.core.progress import Progress
from components.core.stats.figures import Figure, proportion_interval
from components.core.stats.report_config import ReportConfig
from components.core.stats.report_items import ReportItems, item_keys, write_items
from components.core.store.artifact import Checkpoint, Instructions, Report, Tokenizer
from components.core.store.workdir import Workdir
from components.evaluate.sequence_likelihood import (
    ScoredSpan,
    batch_by_length,
    continuation_span,
    span_log_likelihoods,
)
from components.text.chat.ask_model import Row, read_instructions
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model
from components.text.heldout_split import Half
from models.precision import Precision, compute_in

if TYPE_CHECKING:
    from models.decoder import Decoder

CHOICES = 4
ACCURACY = "four_choice_accuracy"
log = get_logger(__name__)


class ChoiceConfig(ReportConfig):
    """Questions, wrong answers, and the rule that ranks candidates."""

    figures: ClassVar = (ACCURACY,)

    questions: int = Field(default=500, ge=1, description="most questions to ask")
    wrong: Literal["other_pages", "same_page"] = Field(
        default="other_pages", description="source of wrong descriptions; same_page is harder"
    )
    rule: Literal["pmi", "likelihood", "per_token"] = Field(
        default="pmi", description="score by which candidates are ranked"
    )
    neutral: str = Field(
        default="What does it do?",
        min_length=1,
        description="question without a subject; pmi divides by the probabilities behind it",
    )
    batch: int = Field(default=4096, ge=16, description="tokens in a batch, padding included")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="seed of questions and candidates")


def evaluate_choice(
    config: ChoiceConfig,
    model: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Report:
    """Measure ``four_choice_accuracy`` (Wilson's 95 % interval; chance is 0.25).

    Held-out descriptions too few for a single question measure nothing: the figure is chance with
    the interval 0 to 1 and rests on none, so a gate that asks for skill refuses and nothing else.

    Args:
        config: questions, candidates and rule.
        model: the decoder to measure.
        instructions: its held-out descriptions are asked, those of the reporting half.
        tokenizer: tokenizer of the model.
        work: folder of the report.

    Raises:
        ConfigError: the model is of another tokenizer.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "choice",
        record_of_model(work.artifact_folder(model)),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    decoder = load_model(work.artifact_folder(model))
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    rows = read_descriptions(work.artifact_folder(instructions), "reporting")
    questions = draw_questions(rows, config)
    if not questions:
        return _seal_unmeasured(rows, config, work)
    items = measure_choice(config, decoder, fast_tokenizer, questions, work.progress)
    hits = items.values[ACCURACY]
    figure = proportion_interval(int(hits.sum()), len(hits), name=ACCURACY)
    config.write_report(
        work.folder, [figure], rule=config.rule, wrong=config.wrong, chance=1 / CHOICES
    )
    write_items(work.folder, items)
    return work.seal(Report, stats={figure.name: round(figure.value, 4), "questions": len(hits)})


def _seal_unmeasured(rows: Sequence[Row], config: ChoiceConfig, work: Workdir) -> Report:
    """Seal a report of chance that names what was too little, and the way to more."""
    pages = len({row["id"] for row in rows})
    reason = (
        f"{len(rows)} held-out descriptions on {pages} page(s) give no question with {CHOICES} "
        f"choices (choice.wrong {config.wrong}): raise tokens.heldout_share and "
        "tokenizer.heldout_share, give more pages with headings under scrape, or change "
        "choice.wrong"
    )
    log.warning("choice: not measured: %s", reason)
    nothing = Figure(name=ACCURACY, value=1 / CHOICES, low=0.0, high=1.0, n=0)
    config.write_report(
        work.folder, [nothing], rule=config.rule, wrong=config.wrong, unmeasured=reason
    )
    return work.seal(Report, stats={"questions": 0.0})


def read_descriptions(folder: Path, half: Half) -> list[Row]:
    """Rows of held-out descriptions (kind ``describe``), from the pages of one half.

    Raises:
        DataError: the file or a column is missing.
    """
    rows = read_instructions(folder, "heldout", half)
    return [row for row in rows if row["kind"] == "describe"]


def measure_choice(
    config: ChoiceConfig,
    decoder: Decoder,
    tokenizer: ChatTokenizer,
    questions: Sequence[tuple[Row, list[Row]]],
    progress: Progress,
) -> ReportItems:
    """Items of questions: 1 where the model picks the right description, else 0.

    Keys are equal where candidates and rule are.

    Args:
        config: the rule.
        decoder: the model that picks.
        words: its tokenizer.
        questions: (right, three wrong) rows of each question.
        progress: counts candidates.
    """
    spans = question_spans(questions, tokenizer, config.neutral)
    scores = _span_scores(decoder, spans, config, progress)
    lengths = np.array([len(span.ids) - span.start for span in spans])
    hits = rank_right_answers(scores, lengths, config.rule).astype(np.float64)
    rule = [config.rule, config.neutral]
    keys = item_keys(
        [
            [right["question"], right["answer"], sorted(row["answer"] for row in wrong), rule]
            for right, wrong in questions
        ]
    )
    pages = [right["id"] for right, _ in questions]
    return ReportItems(keys, pages, np.ones(len(questions)), {ACCURACY: hits})


def question_spans(
    questions: Sequence[tuple[Row, list[Row]]], tokenizer: ChatTokenizer, neutral: str
) -> list[ScoredSpan]:
    """Spans of each question's four candidates behind it, then behind the neutral question.

    Args:
        questions: (right, three wrong) rows of each question.
        tokenizer: makes prompts and answers.
        neutral: the question that asks nothing.
    """
    spans: list[ScoredSpan] = []
    for right, wrong in questions:
        answers = [row["answer"] for row in (right, *wrong)]
        for question in (right["question"], neutral):
            spans.extend(_answer_span(tokenizer, question, answer) for answer in answers)
    return spans


def _answer_span(tokenizer: ChatTokenizer, question: str, answer: str) -> ScoredSpan:
    conversation = tokenizer.encode_answer(question, answer)
    ((start, end),) = conversation.answers
    return continuation_span(conversation.ids[:start], conversation.ids[start:end])


def _span_scores(
    model: Decoder, spans: list[ScoredSpan], config: ChoiceConfig, progress: Progress
) -> NDArray[np.float64]:
    """Log-probabilities of all spans; equal spans are computed once."""
    distinct = {(candidate.ids.tobytes(), candidate.start): candidate for candidate in spans}
    keys, candidates = list(distinct), list(distinct.values())
    scores: dict[tuple[bytes, int], float] = {}
    progress.start_count(len(candidates), "answers")
    with compute_in(model, config.precision):
        for rows in batch_by_length([len(span.ids) for span in candidates], config.batch):
            values = span_log_likelihoods(model, candidates, rows)
            scores.update({keys[row]: value for row, value in zip(rows, values, strict=True)})
            progress.advance(len(rows))
    return np.array([scores[span.ids.tobytes(), span.start] for span in spans])


def draw_questions(rows: Sequence[Row], config: ChoiceConfig) -> list[tuple[Row, list[Row]]]:
    """Draw (right, three wrong) rows; all four answers and the subjects' last names differ.

    Everything is drawn by digest: rows lie on a ring, and a question takes the next ones from a
    place of its own (consistent hashing, Karger et al. 1997). So a corpus in which a few pages
    changed asks most questions again with the same candidates, and two models can be paired.

    Returns:
        Empty where no right answer has three wrong candidates.
    """
    ring = sorted(rows, key=lambda row: _ring_position(config.seed, "offered", row))
    places = [_ring_position(config.seed, "offered", row) for row in ring]
    questions: list[tuple[Row, list[Row]]] = []
    for right in sorted(rows, key=lambda row: _ring_position(config.seed, "asked", row)):
        start = bisect(places, _ring_position(config.seed, "answered", right))
        wrong = _wrong_candidates(right, [*ring[start:], *ring[:start]], config)
        if wrong is not None:
            questions.append((right, wrong))
        if len(questions) == config.questions:
            break
    return questions


def _ring_position(seed: int, use: str, row: Row) -> bytes:
    identity = "\0".join((str(seed), use, row["subject"], row["question"], row["answer"]))
    return hashlib.sha256(identity.encode(errors="surrogatepass")).digest()


def _wrong_candidates(
    right: Row, candidates: Sequence[Row], config: ChoiceConfig
) -> list[Row] | None:
    """First three candidates that differ from ``right`` and from each other."""
    same_page = config.wrong == "same_page"
    answers, names = {right["answer"]}, {right["subject"].rpartition(".")[2]}
    chosen: list[Row] = []
    for row in candidates:
        name = row["subject"].rpartition(".")[2]
        if (row["id"] == right["id"]) is not same_page:
            continue
        if row["answer"] in answers or name in names:
            continue
        answers.add(row["answer"])
        names.add(name)
        chosen.append(row)
        if len(chosen) == CHOICES - 1:
            return chosen
    return None


def rank_right_answers(
    scores: NDArray[np.float64], lengths: NDArray[np.int64], rule: str
) -> NDArray[np.bool_]:
    """True for each question whose first candidate scores highest; a tie counts as wrong.

    Args:
        scores: log-probabilities, a question's four candidates behind the question and then
            behind the neutral one, question after question.
        lengths: tokens of each candidate, in the same order.
        rule: ``ChoiceConfig.rule``.
    """
    behind_question, neutral = np.moveaxis(scores.reshape(-1, 2, CHOICES), 1, 0)
    tokens = lengths.reshape(-1, 2, CHOICES)[:, 0]
    ranked = {
        "pmi": behind_question - neutral,
        "likelihood": behind_question,
        "per_token": behind_question / tokens,
    }[rule]
    hits: NDArray[np.bool_] = ranked[:, 0] > ranked[:, 1:].max(axis=1)
    return hits
