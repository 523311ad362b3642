"""Selection of the best checkpoint: the fine-tuned model, or what alignment made of it.

    modelmill stage keep_best --input incumbent=PATH --input candidates.ppo=PATH \\
        --input instructions=PATH --input tokenizer=PATH --input tokens=PATH --output DIR

Alignment is an attempt, not a condition. A candidate takes the incumbent's place only where the
principles judge its answers to held-out questions better, by a paired interval above zero (p values
of several candidates are adjusted by Holm's method), and where it is no worse in the four-choice
task, in exact facts and in safety. Only the choosing half of the held-out pages is asked: the other
half reports on the choice, so that no figure was chosen to be good. Nor may it prefer less what a
team chose in held-out pairs of its own, which decide alone where the principles do not. Writes the
kept model's files, its curve among them, and ``verdicts.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.progress import Progress
from components.core.stats.report_items import ReportItems, read_items, write_items
from components.core.store.artifact import (
    MANIFEST_FILE,
    VOLATILE_FOLDER,
    Checkpoint,
    Instructions,
    Preferences,
    Tokenizer,
    Tokens,
    canonical_json,
)
from components.core.store.workdir import Workdir
from components.evaluate.candidate_verdicts import (
    OWN_FIGURE,
    REWARD_FIGURE,
    CandidateComparison,
    CandidateVerdict,
    choose_candidate,
    judge_candidates,
)
from components.evaluate.exact_facts import (
    Fact,
    FactsConfig,
    answer_facts,
    draw_facts,
    fact_items,
    is_exact_answer,
)
from components.evaluate.four_choice import (
    ChoiceConfig,
    draw_questions,
    measure_choice,
    read_descriptions,
)
from components.evaluate.judged_answers import JudgingConfig, answer_and_judge, reward_items
from components.evaluate.own_pairs import OwnPair, own_pair_items, read_own_pairs
from components.evaluate.safety import (
    SafetyConfig,
    SafetyPrompt,
    answer_and_inspect,
    finding_items,
    read_safety_prompts,
)
from components.text.chat.ask_model import QuestionPrompt, Row, read_instructions, read_questions
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.decoder_files import has_finite_weights, load_model, read_shape, same_weights
from components.text.token_arrays import open_split

if TYPE_CHECKING:
    import numpy as np

    from models.decoder import Decoder

VERDICTS_FILE = "verdicts.json"
CHOOSING_SEED = 1
"""Of the answers to probes, which both halves ask: those that choose report nothing."""
log = get_logger(__name__)


class KeepBestConfig(JudgingConfig):
    """Questions by which candidates are compared with the incumbent."""

    incumbent: str = Field(
        default="sft",
        pattern="^[a-z0-9_]{1,40}$",
        description="name of the model that stays unless a candidate is better",
    )
    questions: int | None = Field(
        default=None, ge=1, description="questions of the choosing half, at most; null asks all"
    )
    choice: ChoiceConfig = Field(
        default=ChoiceConfig(), description="four-choice task; a candidate may not be worse in it"
    )
    facts: FactsConfig = Field(
        default=FactsConfig(), description="exact facts; a candidate may not be worse in them"
    )
    decided_by: Literal["principles", "own_preferences"] = Field(
        default="principles",
        description="judge of candidates: the principles, or held-out pairs of your own",
    )
    safety: SafetyConfig = Field(
        default_factory=lambda: SafetyConfig(seed=CHOOSING_SEED),
        description="safety; a candidate may not be worse in it",
    )


@dataclass(frozen=True)
class EvaluationSet:
    """Everything that each model is asked, drawn once."""

    tokenizer: ChatTokenizer
    prompts: Sequence[QuestionPrompt]
    descriptions: Sequence[tuple[Row, list[Row]]]
    facts: Sequence[Fact]
    safety_prompts: Sequence[SafetyPrompt]
    training_tokens: np.ndarray[Any, np.dtype[np.integer]]
    own_pairs: Sequence[OwnPair]


def keep_best(
    config: KeepBestConfig,
    incumbent: Checkpoint,
    candidates: Mapping[str, Checkpoint],
    instructions: Instructions,
    tokenizer: Tokenizer,
    tokens: Tokens,
    work: Workdir,
    preferences: Preferences | None = None,
) -> Checkpoint:
    """Seal a copy of the best model, with the verdict on every candidate.

    Args:
        config: the questions and their sampling.
        incumbent: stays unless a candidate is better.
        candidates: checkpoints made of it, by name.
        instructions: their held-out questions choose; their training questions give facts.
        tokenizer: that of all models.
        tokens: the training text, in which copies are looked for.
        work: an earlier try's answers are found in its scratch folder.
        preferences: held-out pairs of a team's own.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input cannot be read.
    """
    models = {config.incumbent: incumbent, **candidates}
    folders = {name: work.artifact_folder(model) for name, model in models.items()}
    check_one_tokenizer(
        "keep_best",
        record_of_tokenizer(work.artifact_folder(tokenizer)),
        record_of_tokens(work.artifact_folder(tokens)),
        *(record_of_model(folder, f"model {name}") for name, folder in folders.items()),
    )
    changed = [
        name for name in candidates if not same_weights(folders[config.incumbent], folders[name])
    ]
    verdicts = {
        name: CandidateVerdict(name, reason="unchanged")
        for name in candidates
        if name not in changed
    }
    finite = [name for name in changed if has_finite_weights(folders[name])]
    verdicts |= {
        name: CandidateVerdict(name, reason="not finite") for name in changed if name not in finite
    }
    verdicts |= {
        verdict.candidate: verdict
        for verdict in _compare_candidates(
            config, folders, finite, (instructions, tokenizer, tokens, preferences), work
        )
    }
    ordered = [verdicts[name] for name in candidates]
    best = choose_candidate(ordered) or config.incumbent
    _copy_model_files(folders[best], work.folder)
    _write_verdicts(config, best, ordered, models, work.folder)
    note = f"{best} ({'; '.join(map(str, ordered)) or 'nothing to compare'})"
    log.info("keep_best: %s", note)
    examined = sum(verdict.reward is not None for verdict in ordered)
    stats = {"kept_candidate": float(best != config.incumbent), "examined": float(examined)}
    return work.seal(Checkpoint, stats={**stats, **_difference_stats(ordered)}, note=note)


def _compare_candidates(
    config: KeepBestConfig,
    folders: Mapping[str, Path],
    candidates: Sequence[str],
    inputs: tuple[Instructions, Tokenizer, Tokens, Preferences | None],
    work: Workdir,
) -> list[CandidateVerdict]:
    """Verdicts on candidates; equal ones where too little can be asked or nothing is judged."""
    if not candidates:
        return []
    *given, preferences = inputs
    instructions, tokenizer, tokens = (work.artifact_folder(a) for a in given if a is not None)
    judged = None if preferences is None else work.artifact_folder(preferences)
    by_principles = config.decided_by == "principles"
    if by_principles and not read_instructions(instructions, "heldout", "choosing"):
        return [CandidateVerdict(name, reason="too few to compare") for name in candidates]
    questions = _draw_evaluation_set(config, folders, (instructions, tokenizer, tokens), judged)
    names = [config.incumbent, *candidates]
    work.progress.start_count(float(len(names)), "models")
    measured: dict[str, dict[str, ReportItems]] = {}
    for name in names:
        scratch = work.scratch / name
        measured[name] = _measure_model(config, folders[name], questions, scratch)
        work.progress.advance(1, note=name)
    incumbent_items = measured[config.incumbent]
    return judge_candidates(
        {name: (measured[name], incumbent_items) for name in candidates},
        REWARD_FIGURE if by_principles else OWN_FIGURE,
    )


def _draw_evaluation_set(
    config: KeepBestConfig,
    folders: Mapping[str, Path],
    inputs: tuple[Path, Path, Path],
    preferences: Path | None,
) -> EvaluationSet:
    instructions, tokenizer, tokens = inputs
    fast_tokenizer = open_tokenizer(tokenizer)
    shapes = {name: read_shape(folder) for name, folder in folders.items()}
    context = min(shape.context for shape in shapes.values())
    prompts = read_questions(
        instructions,
        "heldout",
        fast_tokenizer,
        longest=context - config.max_new,
        limit=config.questions,
        seed=config.seed,
        half="choosing",
    )
    return EvaluationSet(
        tokenizer=fast_tokenizer,
        prompts=prompts,
        descriptions=draw_questions(read_descriptions(instructions, "choosing"), config.choice),
        facts=draw_facts(
            config.facts,
            instructions,
            fast_tokenizer,
            longest=context - config.facts.max_new,
            half="choosing",
        ),
        safety_prompts=read_safety_prompts(
            config.safety, instructions, fast_tokenizer, context - config.safety.max_new, "choosing"
        ),
        training_tokens=open_split(tokens, "train").tokens,
        own_pairs=read_own_pairs(preferences, context, config.questions),
    )


def _measure_model(
    config: KeepBestConfig, folder: Path, questions: EvaluationSet, scratch: Path
) -> dict[str, ReportItems]:
    """Items of one model by task; those that an earlier try measured are read."""
    decoder = cache(lambda: load_model(folder))
    silent = Progress()
    tasks: dict[str, Callable[[], ReportItems]] = {
        "reward": lambda: reward_items(
            config,
            questions.prompts,
            answer_and_judge(config, decoder(), questions.tokenizer, questions.prompts),
        ),
        "choice": lambda: measure_choice(
            config.choice, decoder(), questions.tokenizer, questions.descriptions, silent
        ),
        "facts": lambda: _fact_items(config.facts, decoder(), questions),
        "own": lambda: own_pair_items(decoder(), questions.own_pairs),
        "safety": lambda: finding_items(
            config.safety,
            questions.safety_prompts,
            answer_and_inspect(
                config.safety,
                decoder(),
                questions.tokenizer,
                questions.safety_prompts,
                questions.training_tokens,
            ),
        ),
    }
    empty = {
        "reward": not questions.prompts,  # only where own pairs decide
        "choice": not questions.descriptions,
        "facts": not questions.facts,
        "own": not questions.own_pairs,
    }
    items: dict[str, ReportItems] = {}
    for task, measure in tasks.items():
        if empty.get(task):
            continue
        place = scratch / task
        place.mkdir(parents=True, exist_ok=True)
        saved = read_items(place)
        items[task] = measure() if saved is None else saved
        if saved is None:
            write_items(place, items[task])
    return items


def _fact_items(config: FactsConfig, model: Decoder, questions: EvaluationSet) -> ReportItems:
    answers = answer_facts(config, model, questions.tokenizer, questions.facts)
    pairs = zip(questions.facts, answers, strict=True)
    return fact_items(
        config, questions.facts, [is_exact_answer(fact, answer.text) for fact, answer in pairs]
    )


def _copy_model_files(source: Path, target: Path) -> None:
    """Copy a model's files without its manifest and what differs between equal runs."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source)
        if name.parts[0] != VOLATILE_FOLDER and name != Path(MANIFEST_FILE):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _write_verdicts(
    config: KeepBestConfig,
    best: str,
    verdicts: Sequence[CandidateVerdict],
    models: Mapping[str, Checkpoint],
    folder: Path,
) -> None:
    """Write verdicts with the digests of all models, which tie the file to this comparison."""
    content = {
        "kept": best,
        "incumbent": config.incumbent,
        "models": {name: model.digest for name, model in models.items()},
        "candidates": [verdict.as_json() for verdict in verdicts],
    }
    write_atomically(folder / VERDICTS_FILE, canonical_json(content))


def _difference_stats(verdicts: Sequence[CandidateVerdict]) -> dict[str, float]:
    measured: list[tuple[str, CandidateComparison]] = [
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
