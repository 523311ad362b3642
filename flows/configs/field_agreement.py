"""Fields of different stages that must agree, compared before anything runs.

Each stage would find out by itself, after hours of the stages before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.core.errors import ConfigError
from components.export.hf.hf_config import hf_config
from components.export.onnx.expert_graph import check_drawable
from components.export.onnx.served_graph import check_served
from components.train.autopilot.apply_choices import fixed_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from flows.configs.text_run import TextRun
    from models.shape import DecoderShape


def disagreements(run: TextRun) -> Iterator[str]:
    """A line for each pair that cannot go together: both fields, and the way on."""
    yield from _vocabularies(run)
    yield from _contexts(run)
    yield from _kinds(run)


def _vocabularies(run: TextRun) -> Iterator[str]:
    shape, asked = _shape(run), run.tokenizer.vocabulary
    if shape is not None and shape.vocabulary != asked:
        yield (
            f"tokenizer.vocabulary ({asked}) must be pretrain.shape.vocabulary "
            f"({shape.vocabulary}): set both to the same number"
        )


def _contexts(run: TextRun) -> Iterator[str]:
    context = run.pretrain.shape.context
    answers = {
        "preferences": run.preferences.max_new,
        "ppo": run.ppo.max_new,
        "keep_best": run.keep_best.max_new,
        "keep_best.facts": run.keep_best.facts.max_new,
        "keep_best.safety": run.keep_best.safety.max_new,
        "facts": run.facts.max_new,
        "compare": run.compare.max_new,
        "safety": run.safety.max_new,
    }
    for stage, tokens in answers.items():
        if tokens >= context:  # an answer leaves room for a question
            yield f"{stage}.max_new ({tokens}) must be below pretrain.shape.context ({context})"
    if run.loss.window > context:
        yield (
            f"loss.window ({run.loss.window}) must be within pretrain.shape.context ({context}): "
            "lower it, or raise the context"
        )


def _kinds(run: TextRun) -> Iterator[str]:
    absent = [kind for kind in run.sft.kinds if kind not in run.instructions.kinds]
    if absent:
        yield (
            f"sft.kinds ({', '.join(absent)}) must be among instructions.kinds "
            f"({', '.join(run.instructions.kinds)}): make the kind, or do not learn from it"
        )


def _shape(run: TextRun) -> DecoderShape | None:
    """The shape that is trained; None where the autopilot chooses it, to fit the tokenizer."""
    config = run.pretrain
    return None if config.autopilot and "shape" not in fixed_fields(config) else config.shape


def check_heldout_shares(run: TextRun) -> None:
    """Refuse a vocabulary that would be learnt from held-out pages.

    Not part of a config's validation: what ran so before can be repeated, as ``forget`` must.

    Raises:
        ConfigError: shares or seeds of the two splits differ; names both.
    """
    tokenizer, tokens = run.tokenizer, run.tokens
    if tokenizer.heldout_share < tokens.heldout_share:
        raise ConfigError(
            f"tokenizer.heldout_share ({tokenizer.heldout_share:g}) must be tokens.heldout_share "
            f"({tokens.heldout_share:g}), else the vocabulary is learnt from held-out pages: set "
            "both to the same number"
        )
    if tokenizer.seed != tokens.seed and tokenizer.heldout_share:
        raise ConfigError(
            f"tokenizer.seed ({tokenizer.seed}) must be tokens.seed ({tokens.seed}), else the "
            "vocabulary is learnt from held-out pages: set both to the same number"
        )


def check_exportable(run: TextRun, stages: Collection[str]) -> None:
    """Refuse a shape that a later stage of the run cannot write.

    Args:
        stages: those that the run takes.

    Raises:
        ConfigError: names the shape's field, the stage, and how to run without it.
    """
    shape = _shape(run)
    checks: dict[str, Callable[[DecoderShape], object]] = {
        "onnx": check_served,
        "hf": hf_config,
        "engine": check_drawable,
    }
    for stage, check in checks.items():
        if shape is None or stage not in stages:
            continue
        try:
            check(shape)
        except ConfigError as error:
            raise ConfigError(
                f"pretrain.shape: the stage {stage} would refuse it ({error}); to train it all the "
                "same, run --until safety"
            ) from error
