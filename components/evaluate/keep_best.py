"""Keeps the best of a fine-tuned model and what alignment made of it.

    modelmill stage keep_best --input incumbent=PATH --input candidates.ppo=PATH \\
        --input instructions=PATH --input tokenizer=PATH --input tokens=PATH --output DIR

Alignment is an attempt, not a condition. A candidate takes the incumbent's place only where the
principles judge its answers to held-out questions better, by a paired interval above zero (p values
of several candidates are adjusted by Holm's method), and where it is no worse in the four-choice
task, in exact facts and in safety. Only the choosing half of the held-out pages is asked: the other
half reports on the choice, so that no figure was chosen to be good. Writes the kept model's files,
its curve among them, and ``verdicts.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.progress import Progress
from components.core.stats.report_items import Items, read_items, write_items
from components.core.store.artifact import (
    MANIFEST,
    VOLATILE,
    Checkpoint,
    Instructions,
    Tokenizer,
    Tokens,
    canonical,
)
from components.core.store.workdir import Workdir
from components.evaluate.candidate_verdicts import Comparison, Verdict, compare_items, decide
from components.evaluate.exact_facts import (
    Fact,
    FactsConfig,
    answer_facts,
    draw_facts,
    fact_items,
    is_exact,
)
from components.evaluate.four_choice import (
    ChoiceConfig,
    draw_questions,
    measure_choice,
    read_descriptions,
)
from components.evaluate.judged_answers import JudgingConfig, answer_and_judge, reward_items
from components.evaluate.safety import (
    Prompted,
    SafetyConfig,
    examine,
    finding_items,
    read_prompts,
)
from components.text.chat.ask_model import Asked, Row, read_instructions, read_questions
from components.text.chat.chat_template import open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.decoder_files import is_finite, load_model, read_shape, same_weights
from components.text.token_arrays import open_split

if TYPE_CHECKING:
    import numpy as np
    import tokenizers

    from models.decoder import Decoder

VERDICTS_FILE = "verdicts.json"
CHOOSING_SEED = 1
"""Of the answers to probes, which both halves ask: those that choose report nothing."""
log = get_logger(__name__)


class KeepBestConfig(JudgingConfig):
    """What the models are asked before one of them is kept."""

    incumbent: str = Field(
        default="sft",
        pattern="^[a-z0-9_]{1,40}$",
        description="what the model is called that stays unless one is better",
    )
    questions: int | None = Field(
        default=None, ge=1, description="choosing questions, at most; null asks all"
    )
    choice: ChoiceConfig = Field(
        default=ChoiceConfig(), description="the four-choice task, in which none may be worse"
    )
    facts: FactsConfig = Field(
        default=FactsConfig(), description="exact facts, in which none may be worse"
    )
    safety: SafetyConfig = Field(
        default_factory=lambda: SafetyConfig(seed=CHOOSING_SEED),
        description="safety, in which none may be worse",
    )


@dataclass(frozen=True)
class Exam:
    """All that each model is asked, drawn once."""

    tokenizer: tokenizers.Tokenizer
    asked: Sequence[Asked]
    descriptions: Sequence[tuple[Row, list[Row]]]
    facts: Sequence[Fact]
    prompts: Sequence[Prompted]
    training: np.ndarray[Any, np.dtype[np.integer]]


def keep_best(
    config: KeepBestConfig,
    incumbent: Checkpoint,
    candidates: Mapping[str, Checkpoint],
    instructions: Instructions,
    tokenizer: Tokenizer,
    tokens: Tokens,
    work: Workdir,
) -> Checkpoint:
    """Seal a copy of the best model, with the verdict on every candidate.

    Args:
        config: what is asked.
        incumbent: stays unless a candidate is better.
        candidates: what was made of it, by name.
        instructions: their held-out questions choose; their training questions give facts.
        tokenizer: that of all models.
        tokens: the training text, in which copies are looked for.
        work: an earlier try's answers are found in its scratch folder.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input cannot be read.
    """
    models = {config.incumbent: incumbent, **candidates}
    folders = {name: work.path(model) for name, model in models.items()}
    check_one_tokenizer(
        "keep_best",
        record_of_tokenizer(work.path(tokenizer)),
        record_of_tokens(work.path(tokens)),
        *(record_of_model(folder, f"model {name}") for name, folder in folders.items()),
    )
    changed = [
        name for name in candidates if not same_weights(folders[config.incumbent], folders[name])
    ]
    verdicts = {
        name: Verdict(name, reason="unchanged") for name in candidates if name not in changed
    }
    finite = [name for name in changed if is_finite(folders[name])]
    verdicts |= {name: Verdict(name, reason="not finite") for name in changed if name not in finite}
    verdicts |= {
        verdict.candidate: verdict
        for verdict in _examined(config, folders, finite, (instructions, tokenizer, tokens), work)
    }
    ordered = [verdicts[name] for name in candidates]
    kept = decide(ordered) or config.incumbent
    _copy(folders[kept], work.folder)
    _write_verdicts(config, kept, ordered, models, work.folder)
    note = f"{kept} ({'; '.join(map(str, ordered)) or 'nothing to compare'})"
    log.info("keep_best: %s", note)
    examined = sum(verdict.reward is not None for verdict in ordered)
    stats = {"kept_candidate": float(kept != config.incumbent), "examined": float(examined)}
    return work.seal(Checkpoint, stats={**stats, **_figures(ordered)}, note=note)


def _examined(
    config: KeepBestConfig,
    folders: Mapping[str, Path],
    candidates: Sequence[str],
    inputs: tuple[Instructions, Tokenizer, Tokens],
    work: Workdir,
) -> list[Verdict]:
    """A verdict on each candidate; all alike where there is too little to ask or no judgement."""
    if not candidates:
        return []
    instructions, tokenizer, tokens = (work.path(artifact) for artifact in inputs)
    if not read_instructions(instructions, "heldout", "choosing"):
        return [Verdict(name, reason="too few to compare") for name in candidates]
    exam = _draw_exam(config, folders, instructions, tokenizer, tokens)
    names = [config.incumbent, *candidates]
    work.progress.start(float(len(names)), "models")
    measured: dict[str, dict[str, Items]] = {}
    for name in names:
        scratch = work.scratch / name
        measured[name] = _measure(config, folders[name], exam, scratch)
        work.progress.advance(1, note=name)
    before = measured[config.incumbent]
    return compare_items({name: (measured[name], before) for name in candidates})


def _draw_exam(
    config: KeepBestConfig,
    folders: Mapping[str, Path],
    instructions: Path,
    tokenizer: Path,
    tokens: Path,
) -> Exam:
    opened = open_tokenizer(tokenizer)
    shapes = {name: read_shape(folder) for name, folder in folders.items()}
    context = min(shape.context for shape in shapes.values())
    asked = read_questions(
        instructions,
        "heldout",
        opened,
        longest=context - config.max_new,
        limit=config.questions,
        seed=config.seed,
        half="choosing",
    )
    return Exam(
        tokenizer=opened,
        asked=asked,
        descriptions=draw_questions(read_descriptions(instructions, "choosing"), config.choice),
        facts=draw_facts(
            config.facts,
            instructions,
            opened,
            longest=context - config.facts.max_new,
            half="choosing",
        ),
        prompts=read_prompts(
            config.safety, instructions, opened, context - config.safety.max_new, "choosing"
        ),
        training=open_split(tokens, "train").tokens,
    )


def _measure(config: KeepBestConfig, folder: Path, exam: Exam, scratch: Path) -> dict[str, Items]:
    """One model's items by task; those that an earlier try measured are read."""
    decoder = cache(lambda: load_model(folder))
    silent = Progress()
    tasks: dict[str, Callable[[], Items]] = {
        "reward": lambda: reward_items(
            config, exam.asked, answer_and_judge(config, decoder(), exam.tokenizer, exam.asked)
        ),
        "choice": lambda: measure_choice(
            config.choice, decoder(), exam.tokenizer, exam.descriptions, silent
        ),
        "facts": lambda: _fact_items(config.facts, decoder(), exam),
        "safety": lambda: finding_items(
            config.safety,
            exam.prompts,
            examine(config.safety, decoder(), exam.tokenizer, exam.prompts, exam.training),
        ),
    }
    empty = {"choice": not exam.descriptions, "facts": not exam.facts}
    items: dict[str, Items] = {}
    for task, measure in tasks.items():
        if empty.get(task):
            continue
        place = scratch / task
        place.mkdir(parents=True, exist_ok=True)
        known = read_items(place)
        items[task] = measure() if known is None else known
        if known is None:
            write_items(place, items[task])
    return items


def _fact_items(config: FactsConfig, model: Decoder, exam: Exam) -> Items:
    answers = answer_facts(config, model, exam.tokenizer, exam.facts)
    pairs = zip(exam.facts, answers, strict=True)
    return fact_items(config, exam.facts, [is_exact(fact, answer.text) for fact, answer in pairs])


def _copy(source: Path, target: Path) -> None:
    """The model's files, without its manifest and what differs between equal runs."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source)
        if name.parts[0] != VOLATILE and name != Path(MANIFEST):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _write_verdicts(
    config: KeepBestConfig,
    kept: str,
    verdicts: Sequence[Verdict],
    models: Mapping[str, Checkpoint],
    folder: Path,
) -> None:
    """The digests of all models are part of it, so that its own digest is of this comparison."""
    content = {
        "kept": kept,
        "incumbent": config.incumbent,
        "models": {name: model.digest for name, model in models.items()},
        "candidates": [verdict.as_json() for verdict in verdicts],
    }
    write_atomically(folder / VERDICTS_FILE, canonical(content))


def _figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    measured: list[tuple[str, Comparison]] = [
        (verdict.candidate, verdict.reward) for verdict in verdicts if verdict.reward is not None
    ]
    return {
        f"{key}_{name}": round(value, 5)
        for name, reward in measured
        for key, value in (
            ("difference", reward.figure.value),
            ("difference_low", reward.figure.low),
            ("difference_high", reward.figure.high),
            ("detectable", reward.detectable),
        )
    }
