"""Steps that every pipeline of a language model shares: alignment, evaluation, export, publication.

Each takes the run config (``run``) and the ``runner`` first, as the parts of a pipeline do.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.align.ppo import ppo
from components.align.preferences import make_preferences
from components.align.train_reward import train_reward
from components.clean.preferences.read_preferences import read_preferences
from components.core.store.artifact import (
    Bento,
    Bundle,
    Checkpoint,
    Corpus,
    Dataset,
    Instructions,
    ModelVersion,
    Report,
    Tokenizer,
    Tokens,
)
from components.evaluate.compare_policies import compare_policies
from components.evaluate.keep_best import keep_best
from components.evaluate.safety import evaluate_safety
from components.export.bundle import bundle
from components.export.hf.export_hf import export_hf
from components.export.onnx.export_onnx import export_onnx
from components.export.quantize import quantize
from components.export.tensorrt.export_engine import export_engine
from components.publish.dossier.write_dossier import write_dossier
from components.publish.promotion.promote import promote
from components.publish.registry.register import register
from flows.configs.text_run import TextRun
from flows.runner.runner import Runner
from serving.bento.build_bento import package
from serving.smoke_test import smoke


@dataclass(frozen=True)
class TrainingData:
    """Tokenizer, and the corpus as token shards and as instructions, split alike.

    ``judged`` holds the answers that a team judged itself, where files of them are given.
    """

    tokenizer: Tokenizer
    tokens: Tokens
    instructions: Instructions
    judged: dict[str, Corpus]


@dataclass(frozen=True)
class TrainedModel:
    """Best model, its fine-tuned predecessor, and the loss of its base model."""

    model: Checkpoint
    sft: Checkpoint
    loss: Report


@dataclass(frozen=True)
class PublishedModel:
    """Promoted model version, and the Bento that serves it."""

    version: ModelVersion
    bento: Bento


def read_judged_answers(run: TextRun, runner: Runner) -> dict[str, Corpus]:
    """Files of answers that a team judged itself -> a corpus by its role; empty without files.

    Read before a model is trained, so that a mistake in them costs no training.
    """
    if not run.preferences.files:
        return {}
    corpus = runner.step("own_preferences", read_preferences, run.resolved_own_preferences)
    return {"own_preferences": corpus}


def align(run: TextRun, runner: Runner, data: TrainingData, sft: Checkpoint) -> Checkpoint:
    """Fine-tuned model -> an aligned one; the better of the two goes on.

    Args:
        data: tokens, tokenizer and instructions.
        sft: the fine-tuned model.
    """
    tokenizer = data.tokenizer
    prompting = {"instructions": data.instructions, "tokenizer": tokenizer}

    preferences = runner.step(
        "preferences", make_preferences, run.preferences, policy=sft, **prompting, **data.judged
    )
    reward = runner.step(
        "reward", train_reward, run.reward, policy=sft, preferences=preferences, tokenizer=tokenizer
    )
    # Own prompts are asked in alignment, own held-out pairs in the choice.
    own = {"preferences": preferences} if run.preferences.files else {}
    aligned = runner.step(
        "ppo", ppo, run.resolved_ppo, policy=sft, reward=reward, **prompting, **own
    )

    candidates = {"ppo": aligned}  # another alignment method would stand beside it
    return runner.step(
        "keep_best",
        keep_best,
        run.resolved_keep_best,
        incumbent=sft,
        candidates=candidates,
        tokens=data.tokens,
        **prompting,
        **own,
    )


def evaluate_answers(
    run: TextRun, runner: Runner, data: TrainingData, trained: TrainedModel
) -> dict[str, Report]:
    """Reports on answers to the held-out questions that did not choose the best model.

    Args:
        data: tokens, tokenizer and instructions.
        trained: the model, and the one that it is compared with.
    """
    model, sft, tokens = trained.model, trained.sft, data.tokens
    prompting = {"instructions": data.instructions, "tokenizer": data.tokenizer}
    return {
        "compare": runner.step(
            "compare", compare_policies, run.compare, policy=model, baseline=sft, **prompting
        ),
        "safety": runner.step(
            "safety", evaluate_safety, run.safety, model=model, tokens=tokens, **prompting
        ),
    }


def export(run: TextRun, runner: Runner, data: TrainingData, model: Checkpoint) -> Bundle:
    """Best model -> every form it is served in, each compared with PyTorch on held-out pages.

    Args:
        data: tokens to compare on, and the tokenizer.
        model: the checkpoint, in PyTorch's form.
    """
    tokens, tokenizer = data.tokens, data.tokenizer
    onnx = runner.step(
        "onnx", export_onnx, run.onnx, model=model, tokens=tokens, tokenizer=tokenizer
    )
    hf = runner.step(
        "hf", export_hf, run.resolved_hf, model=model, tokenizer=tokenizer, tokens=tokens
    )
    int8 = runner.step("int8", quantize, run.int8, model=model, onnx=onnx, tokens=tokens)
    engine = runner.step("engine", export_engine, run.engine, model=model, tokens=tokens)

    # Keys are the names of the forms in the bundle and in the figures of its parity.
    exports = {"hf": hf, "onnx": onnx, "onnx-int8": int8, "tensorrt": engine}
    return runner.step(
        "bundle", bundle, run.bundle, model=model, tokenizer=tokenizer, exports=exports
    )


def publish(
    run: TextRun,
    runner: Runner,
    dataset: Dataset,
    model: Checkpoint,
    exported: Bundle,
    reports: dict[str, Report],
) -> PublishedModel:
    """Bundle -> a version that is registered, packaged, smoke-tested and only then promoted.

    Args:
        dataset: version of the corpus in DVC.
        model: the checkpoint, in PyTorch's form.
        exported: bundle of all its forms.
        reports: reports by name; the gates of ``promote`` ask for their figures.
    """
    version = runner.action(
        "registry",
        register,
        run.resolved_registry,
        bundle=exported,
        model=model,
        dataset=dataset,
        reports=reports,
    )
    bento = runner.action("package", package, run.package, version=version, bundle=exported)
    smoke_report = runner.action("smoke", smoke, run.smoke, bento=bento)

    reports = {**reports, "smoke": smoke_report}
    promoted = runner.action(
        "promote", promote, run.promote, version=version, bento=bento, reports=reports
    )
    runner.action("dossier", write_dossier, run.resolved_dossier, version=promoted, bento=bento)
    return PublishedModel(promoted, bento)
