"""A four-choice task from held-out pages: which description belongs to this function?

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
from components.core.stats.report_items import Items, item_keys, write_items
from components.core.store.artifact import Checkpoint, Instructions, Report, Tokenizer
from components.core.store.workdir import Workdir
from components.evaluate.sequence_likelihood import Span, batches, log_likelihoods, span
from components.text.chat.ask_model import Row, read_instructions
from components.text.chat.chat_template import answer_ids, open_tokenizer, prompt_ids
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model
from components.text.heldout_split import Half
from models.precision import Precision, computing

if TYPE_CHECKING:
    import tokenizers

    from models.decoder import Decoder

CHOICES = 4
ACCURACY = "four_choice_accuracy"
log = get_logger(__name__)


class ChoiceConfig(ReportConfig):
    """Questions, wrong answers, and the rule that ranks candidates."""

    figures: ClassVar = (ACCURACY,)

    questions: int = Field(default=500, ge=1, description="most questions to ask")
    wrong: Literal["other_pages", "same_page"] = Field(
        default="other_pages", description="where wrong descriptions come from; same page is harder"
    )
    rule: Literal["pmi", "likelihood", "per_token"] = Field(
        default="pmi", description="what ranks the candidates"
    )
    neutral: str = Field(
        default="What does it do?", min_length=1, description="the question that asks nothing"
    )
    batch: int = Field(default=4096, ge=16, description="tokens at once")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of questions and candidates")


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

    Raises:
        ConfigError: the model is of another tokenizer.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "choice", record_of_model(work.path(model)), record_of_tokenizer(work.path(tokenizer))
    )
    decoder = load_model(work.path(model))
    words = open_tokenizer(work.path(tokenizer))
    rows = read_descriptions(work.path(instructions), "reporting")
    asked = draw_questions(rows, config)
    if not asked:
        return _unmeasured(rows, config, work)
    items = measure_choice(config, decoder, words, asked, work.progress)
    hits = items.values[ACCURACY]
    figure = proportion_interval(int(hits.sum()), len(hits), name=ACCURACY)
    config.write_report(
        work.folder, [figure], rule=config.rule, wrong=config.wrong, chance=1 / CHOICES
    )
    write_items(work.folder, items)
    return work.seal(Report, stats={figure.name: round(figure.value, 4), "questions": len(hits)})


def _unmeasured(rows: Sequence[Row], config: ChoiceConfig, work: Workdir) -> Report:
    """A report that says what was too little, and how to give more."""
    pages = len({row["id"] for row in rows})
    why = (
        f"{len(rows)} held-out descriptions on {pages} page(s) give no question with {CHOICES} "
        f"choices (choice.wrong {config.wrong}): raise tokens.heldout_share and "
        "tokenizer.heldout_share, give more pages with headings under scrape, or change "
        "choice.wrong"
    )
    log.warning("choice: not measured: %s", why)
    nothing = Figure(name=ACCURACY, value=1 / CHOICES, low=0.0, high=1.0, n=0)
    config.write_report(
        work.folder, [nothing], rule=config.rule, wrong=config.wrong, unmeasured=why
    )
    return work.seal(Report, stats={"questions": 0.0})


def read_descriptions(folder: Path, half: Half) -> list[Row]:
    """Held-out questions of what something does, of the pages of one half.

    Raises:
        DataError: the file or a column is missing.
    """
    rows = read_instructions(folder, "heldout", half)
    return [row for row in rows if row["kind"] == "describe"]


def measure_choice(
    config: ChoiceConfig,
    decoder: Decoder,
    words: tokenizers.Tokenizer,
    asked: Sequence[tuple[Row, list[Row]]],
    progress: Progress,
) -> Items:
    """Whether the model picks the right description, 1 or 0 a question, as ``ACCURACY``.

    A question is the same where its candidates and the rule are.

    Args:
        config: the rule.
        decoder: the model that picks.
        words: its tokenizer.
        asked: (right, three wrong) rows of each question.
        progress: counts candidates.
    """
    spans = question_spans(asked, words, config.neutral)
    scores = _scores(decoder, spans, config, progress)
    lengths = np.array([len(one.ids) - one.start for one in spans])
    hits = right_answers(scores, lengths, config.rule).astype(np.float64)
    how = [config.rule, config.neutral]
    keys = item_keys(
        [
            [right["question"], right["answer"], sorted(row["answer"] for row in wrong), how]
            for right, wrong in asked
        ]
    )
    pages = [right["id"] for right, _ in asked]
    return Items(keys, pages, np.ones(len(asked)), {ACCURACY: hits})


def question_spans(
    asked: Sequence[tuple[Row, list[Row]]], words: tokenizers.Tokenizer, neutral: str
) -> list[Span]:
    """For each question its four candidates behind it, then behind the neutral question."""
    nothing = prompt_ids(words, [("user", neutral)])
    spans: list[Span] = []
    for right, wrong in asked:
        prompt = prompt_ids(words, [("user", right["question"])])
        answers = [answer_ids(words, row["answer"]) for row in (right, *wrong)]
        spans.extend(span(prompt, answer) for answer in answers)
        spans.extend(span(nothing, answer) for answer in answers)
    return spans


def _scores(
    model: Decoder, spans: list[Span], config: ChoiceConfig, progress: Progress
) -> NDArray[np.float64]:
    """Log-probability of every span, equal ones computed once."""
    distinct = {(one.ids.tobytes(), one.start): one for one in spans}
    keys, once = list(distinct), list(distinct.values())
    found: dict[tuple[bytes, int], float] = {}
    progress.start(len(once), "answers")
    with computing(model, config.precision):
        for run in batches([len(one.ids) for one in once], config.batch):
            values = log_likelihoods(model, once, run)
            found.update({keys[row]: value for row, value in zip(run, values, strict=True)})
            progress.advance(len(run))
    return np.array([found[one.ids.tobytes(), one.start] for one in spans])


def draw_questions(rows: Sequence[Row], config: ChoiceConfig) -> list[tuple[Row, list[Row]]]:
    """(right, three wrong) rows; all four answers differ, and so do the subjects' last names.

    Everything is drawn by digest: rows lie on a ring, and a question takes the next ones from a
    place of its own (consistent hashing, Karger et al. 1997). So a corpus in which a few pages
    changed asks most questions again with the same candidates, and two models can be paired.

    Returns:
        None at all where not one right answer has three wrong candidates.
    """
    ring = sorted(rows, key=lambda row: _place(config.seed, "offered", row))
    places = [_place(config.seed, "offered", row) for row in ring]
    asked: list[tuple[Row, list[Row]]] = []
    for right in sorted(rows, key=lambda row: _place(config.seed, "asked", row)):
        start = bisect(places, _place(config.seed, "answered", right))
        wrong = _wrong(right, [*ring[start:], *ring[:start]], config)
        if wrong is not None:
            asked.append((right, wrong))
        if len(asked) == config.questions:
            break
    return asked


def _place(seed: int, use: str, row: Row) -> bytes:
    told = "\0".join((str(seed), use, row["subject"], row["question"], row["answer"]))
    return hashlib.sha256(told.encode(errors="surrogatepass")).digest()


def _wrong(right: Row, candidates: Sequence[Row], config: ChoiceConfig) -> list[Row] | None:
    """The first three that differ from ``right`` and from each other."""
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


def right_answers(
    scores: NDArray[np.float64], lengths: NDArray[np.int64], rule: str
) -> NDArray[np.bool_]:
    """Whether each question's first candidate scores highest; a tie counts as wrong.

    Args:
        scores: log-probabilities, a question's four candidates behind the question and then
            behind the neutral one, question after question.
        lengths: tokens of each.
    """
    asked, neutral = np.moveaxis(scores.reshape(-1, 2, CHOICES), 1, 0)
    tokens = lengths.reshape(-1, 2, CHOICES)[:, 0]
    ranked = {"pmi": asked - neutral, "likelihood": asked, "per_token": asked / tokens}[rule]
    hits: NDArray[np.bool_] = ranked[:, 0] > ranked[:, 1:].max(axis=1)
    return hits
