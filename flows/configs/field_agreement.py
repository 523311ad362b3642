"""Fields of different stages that must agree, compared before anything runs.

Each stage would refuse them by itself, after hours of the stages before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.clean.language.language_codes import unknown_codes
from components.clean.language.train_languages import read_example_codes
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.export.hf.hf_config import hf_config
from components.export.onnx.expert_graph import check_drawable
from components.export.onnx.served_graph import check_served
from components.text.chat.own_rows import OWN_KIND
from components.train.autopilot.apply_choices import fixed_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from components.clean.language.train_languages import LanguageModelConfig
    from components.clean.quality_classifier.rule import ProbabilityRule
    from components.clean.quality_classifier.train_quality_classifier import (
        QualityClassifierConfig,
    )
    from components.evaluate.bits_per_byte import LossConfig
    from components.tokenize.instructions import InstructionsConfig
    from components.tokenize.pack_tokens import TokensConfig
    from components.tokenize.train_tokenizer import TokenizerConfig
    from components.train.pretrain_config import PretrainConfig
    from components.train.sft import FinetuneConfig
    from models.shape import DecoderShape


def check_vocabulary(pretrain: PretrainConfig, tokenizer: TokenizerConfig) -> None:
    """Refuse a model whose vocabulary differs from its tokenizer's.

    Raises:
        ValueError: names both fields and the way on.
    """
    shape = _fixed_shape(pretrain)
    if shape is not None and shape.vocabulary != tokenizer.vocabulary:
        raise ValueError(
            f"tokenizer.vocabulary ({tokenizer.vocabulary}) must be pretrain.shape.vocabulary "
            f"({shape.vocabulary}): set both to the same number"
        )


def answer_lengths(config: StageConfig, within: str = "") -> dict[str, int]:
    """Longest answers that stages sample: dotted field -> its ``max_new``, in tokens.

    Args:
        config: a run's, or one inside it; every ``max_new`` in it is taken.
        within: the dotted field that holds ``config``.
    """
    lengths: dict[str, int] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name == "max_new":
            lengths[within] = value
        elif isinstance(value, StageConfig):
            lengths |= answer_lengths(value, f"{within}.{name}" if within else name)
    return lengths


def check_context(
    pretrain: PretrainConfig, loss: LossConfig, longest_answers: Mapping[str, int]
) -> None:
    """Refuse answers or loss windows that do not fit into the model's context.

    Args:
        pretrain: holds the shape whose context is trained.
        loss: its window must lie within the context.
        longest_answers: ``max_new`` in tokens, by the dotted config field that holds it.

    Raises:
        ValueError: names both fields.
    """
    context = pretrain.shape.context
    for field, tokens in longest_answers.items():
        if tokens >= context:  # an answer leaves room for a question
            raise ValueError(
                f"{field}.max_new ({tokens}) must be below pretrain.shape.context ({context})"
            )
    if loss.window > context:
        raise ValueError(
            f"loss.window ({loss.window}) must be within pretrain.shape.context ({context}): "
            "lower it, or raise the context"
        )


def check_instruction_kinds(sft: FinetuneConfig, instructions: InstructionsConfig) -> None:
    """Refuse to fine-tune on a kind of instruction that is not made.

    Raises:
        ValueError: names both fields and the way on.
    """
    made = [*instructions.kinds, *([OWN_KIND] if instructions.files else [])]
    absent = [kind for kind in sft.kinds if kind not in made]
    if absent == [OWN_KIND]:
        raise ValueError(
            f"sft.kinds ({OWN_KIND}) needs instructions.files: name files of conversations there"
        )
    if absent:
        raise ValueError(
            f"sft.kinds ({', '.join(absent)}) must be among instructions.kinds "
            f"({', '.join(made)}): make the kind, or do not learn from it"
        )


def check_languages(allowed: tuple[str, ...], language_model: LanguageModelConfig) -> None:
    """Refuse languages that no page can be found to be in, so that every page would be dropped.

    The examples are read only for a language that is not built in.

    Args:
        allowed: Codes that the selection lets pass.
        language_model: Examples of further languages.

    Raises:
        ValueError: names the codes and the way on.
    """
    builtin = language_model.builtin or not language_model.examples
    unknown = unknown_codes(allowed, frozenset(), builtin=builtin)
    if unknown and language_model.examples:
        unknown = unknown_codes(allowed, read_example_codes(language_model), builtin=builtin)
    if unknown:
        raise ValueError(
            f"select.language.allowed: no page is found to be in {', '.join(unknown)}; the "
            "built-in languages have ISO 639 codes (en, de, zh), and language_model.examples adds "
            "others"
        )


def _fixed_shape(config: PretrainConfig) -> DecoderShape | None:
    """The shape that is trained; None where the autopilot chooses it, to fit the tokenizer."""
    return None if config.autopilot and "shape" not in fixed_fields(config) else config.shape


def check_heldout_shares(tokenizer: TokenizerConfig, tokens: TokensConfig) -> None:
    """Refuse a vocabulary that would be learnt from held-out pages.

    Not part of a config's validation: what ran so before can be repeated, as ``forget`` must.

    Raises:
        ConfigError: shares or seeds of the two splits differ; names both.
    """
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


def check_exportable(pretrain: PretrainConfig, stages: Collection[str]) -> None:
    """Refuse a shape that a later stage of the run cannot write.

    Args:
        pretrain: holds the shape.
        stages: those that the run takes.

    Raises:
        ConfigError: names the shape's field, the stage, and how to run without it.
    """
    shape = _fixed_shape(pretrain)
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


def check_taught_quantiles(
    rules: Mapping[str, ProbabilityRule], judges: Mapping[str, QualityClassifierConfig]
) -> None:
    """Refuse a quantile of probabilities that no classifier gives.

    Args:
        rules: of ``select``, by their field.
        judges: the classifiers of these rules, in the same order, by their field of the run.

    Raises:
        ValueError: names both fields.
    """
    for (rule_name, rule), (judge_name, judge) in zip(rules.items(), judges.items(), strict=True):
        if rule.quantiles and not judge.examples:
            raise ValueError(
                f"select.{rule_name}.quantiles has no effect without {judge_name}.examples: "
                "name files of labelled texts there, or leave it out"
            )
