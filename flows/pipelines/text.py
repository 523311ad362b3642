"""Text pipeline: web pages or files in, a served language model out, as one straight line.

Read it from top to bottom. Every step is one call on the runner:

    artifact = runner.step(NAME, COMPONENT, CONFIG, **INPUTS)

NAME is the step's name in ``modelmill plan``, in the closing table and in Prefect's UI, COMPONENT
the function that makes the artifact, CONFIG its field of the run config, and INPUTS are artifacts
of earlier steps, by the parameters of the component. A ``source`` reads the outside world, a
``step`` is pure and cached in the store, an ``action`` changes something outside the store.

Every part of the pipeline takes the run config (``run``) and the ``runner`` first, then what it
needs of the parts before it. It never looks inside an artifact, so the same function runs without
any server (``StoreRunner``), under Prefect (``PrefectRunner``) and as a plan (``PlanRunner``).
"""

from __future__ import annotations

from dataclasses import dataclass

from components.align.ppo import ppo
from components.align.preferences import make_preferences
from components.align.train_reward import train_reward
from components.clean.boilerplate.score import score_boilerplate
from components.clean.boilerplate.train_classifier import train_classifier
from components.clean.contamination.score import score_contamination
from components.clean.conversations.read_conversations import read_conversations
from components.clean.duplicates.score import score_duplicates
from components.clean.language.score import score_language
from components.clean.language.train_languages import train_languages
from components.clean.licence.score import score_licence
from components.clean.passages.score import score_passages
from components.clean.pii.score import score_pii
from components.clean.quality.score import score_quality
from components.clean.quality_classifier.score import score_with_quality_classifier
from components.clean.quality_classifier.train_quality_classifier import train_quality_classifier
from components.clean.select import select
from components.clean.site_lines.score import score_site_lines
from components.collect.extract import extract
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
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
from components.evaluate.bits_per_byte import evaluate_loss
from components.evaluate.compare_policies import compare_policies
from components.evaluate.exact_facts import evaluate_facts
from components.evaluate.four_choice import evaluate_choice
from components.evaluate.keep_best import keep_best
from components.evaluate.safety import evaluate_safety
from components.export.bundle import bundle
from components.export.hf.export_hf import export_hf
from components.export.onnx.export_onnx import export_onnx
from components.export.quantize import quantize
from components.export.tensorrt.export_engine import export_engine
from components.publish.dataset.corpus_drift import measure_change
from components.publish.dataset.push_dataset import push_dataset
from components.publish.dossier.write_dossier import write_dossier
from components.publish.promotion.promote import promote
from components.publish.registry.register import register
from components.tokenize.instructions import make_instructions
from components.tokenize.pack_tokens import pack_tokens
from components.tokenize.train_tokenizer import train_tokenizer
from components.train.pretrain import pretrain
from components.train.sft import finetune
from components.validate.check_corpus import check_corpus
from flows.configs.text_run import TextRun
from flows.runner.runner import Runner, SourceResolver
from serving.bento.build_bento import package
from serving.smoke_test import smoke


@dataclass(frozen=True)
class CuratedCorpus:
    """Corpus that passed every rule and the check, the check's report, its version in DVC."""

    corpus: Corpus
    check: Report
    dataset: Dataset


@dataclass(frozen=True)
class TrainingData:
    """Tokenizer, and the corpus as token shards and as instructions, both split by page."""

    tokenizer: Tokenizer
    tokens: Tokens
    instructions: Instructions


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


def text_pipeline(
    run: TextRun, runner: Runner, resolve: SourceResolver[ScrapeConfig]
) -> PublishedModel:
    """Run the whole pipeline: curate, tokenize, train, evaluate, export, publish.

    Args:
        run: config of every stage.
        runner: executes or plans the steps.
        resolve: fixes the date, files and earlier crawl of ``scrape``.
    """
    curated = curate(run, runner, resolve)
    data = tokenize(run, runner, curated.corpus)
    trained = train(run, runner, data)
    reports = {"check": curated.check, **evaluate(run, runner, data, trained)}
    exported = export(run, runner, data, trained.model)
    return publish(run, runner, curated.dataset, trained.model, exported, reports)


def curate(run: TextRun, runner: Runner, resolve: SourceResolver[ScrapeConfig]) -> CuratedCorpus:
    """Raw pages -> a checked corpus.

    Scorers do not see each other; ``select`` sees all their scores and decides on every document.

    Args:
        resolve: fixes the date, files and earlier crawl of ``scrape``.
    """
    pages = runner.source("scrape", scrape, run.scrape, resolve)
    raw = runner.step("extract", extract, run.extract, pages=pages)

    boilerplate_classifier = runner.step("classifier", train_classifier, run.classifier, corpus=raw)
    quality_judge = runner.step("quality_judge", train_quality_classifier, run.quality_judge)
    toxicity_judge = runner.step("toxicity_judge", train_quality_classifier, run.toxicity_judge)
    language_detector = runner.step("language_model", train_languages, run.language_model)
    scores = {
        "language": runner.step(
            "language", score_language, run.language, corpus=raw, languages=language_detector
        ),
        "quality": runner.step("quality", score_quality, run.quality, corpus=raw),
        "judged_quality": runner.step(
            "judged_quality",
            score_with_quality_classifier,
            run.judged_quality,
            corpus=raw,
            judge=quality_judge,
        ),
        "toxicity": runner.step(
            "toxicity",
            score_with_quality_classifier,
            run.toxicity,
            corpus=raw,
            judge=toxicity_judge,
        ),
        "pii": runner.step("pii", score_pii, run.pii, corpus=raw),
        "duplicates": runner.step("duplicates", score_duplicates, run.duplicates, corpus=raw),
        "passages": runner.step("passages", score_passages, run.passages, corpus=raw),
        "boilerplate": runner.step(
            "boilerplate",
            score_boilerplate,
            run.boilerplate,
            corpus=raw,
            classifier=boilerplate_classifier,
        ),
        "site_lines": runner.step("site_lines", score_site_lines, run.site_lines, corpus=raw),
        "contamination": runner.step(
            "contamination", score_contamination, run.contamination, corpus=raw
        ),
        "licence": runner.step("licence", score_licence, run.licence, corpus=raw),
    }
    corpus = runner.step("select", select, run.select, corpus=raw, scores=scores)

    check = runner.step("check", check_corpus, run.resolved_check, corpus=corpus)
    runner.action("change", measure_change, run.resolved_change, corpus=corpus)
    dataset = runner.action("dataset", push_dataset, run.dataset, corpus=corpus)
    return CuratedCorpus(corpus, check, dataset)


def tokenize(run: TextRun, runner: Runner, corpus: Corpus) -> TrainingData:
    """Checked corpus -> tokenizer, tokens and instructions; with them conversations from files.

    Args:
        corpus: the documents that ``select`` kept.
    """
    tokenizer = runner.step("tokenizer", train_tokenizer, run.tokenizer, corpus=corpus)
    tokens = runner.step("tokens", pack_tokens, run.tokens, corpus=corpus, tokenizer=tokenizer)
    own: dict[str, Corpus] = {}
    if run.instructions.files:
        own["conversations"] = runner.step(
            "conversations", read_conversations, run.resolved_conversations
        )
    instructions = runner.step(
        "instructions", make_instructions, run.instructions, corpus=corpus, tokens=tokens, **own
    )
    return TrainingData(tokenizer, tokens, instructions)


def train(run: TextRun, runner: Runner, data: TrainingData) -> TrainedModel:
    """Tokens -> a base model, a fine-tuned one, an aligned one; the best of them goes on.

    Args:
        data: tokens, tokenizer and instructions.
    """
    tokens, tokenizer = data.tokens, data.tokenizer
    # The instructions, and the tokenizer that turns them into prompts.
    prompting = {"instructions": data.instructions, "tokenizer": tokenizer}

    base = runner.step("pretrain", pretrain, run.pretrain, tokens=tokens, tokenizer=tokenizer)
    loss = runner.step("loss", evaluate_loss, run.loss, model=base, tokens=tokens)
    sft = runner.step("sft", finetune, run.sft, model=base, tokens=tokens, **prompting)

    preferences = runner.step(
        "preferences", make_preferences, run.preferences, policy=sft, **prompting
    )
    reward = runner.step(
        "reward", train_reward, run.reward, policy=sft, preferences=preferences, tokenizer=tokenizer
    )
    aligned = runner.step("ppo", ppo, run.ppo, policy=sft, reward=reward, **prompting)

    candidates = {"ppo": aligned}  # another alignment method would stand beside it
    model = runner.step(
        "keep_best",
        keep_best,
        run.keep_best,
        incumbent=sft,
        candidates=candidates,
        tokens=tokens,
        **prompting,
    )
    return TrainedModel(model, sft, loss)


def evaluate(
    run: TextRun, runner: Runner, data: TrainingData, trained: TrainedModel
) -> dict[str, Report]:
    """Reports that gate the best model, over the held-out pages that did not choose it.

    ``loss`` comes from ``train`` and is of the base model, before finetuning.

    Args:
        data: tokens, tokenizer and instructions.
        trained: the model, and the one that it is compared with.
    """
    model, sft, tokens = trained.model, trained.sft, data.tokens
    prompting = {"instructions": data.instructions, "tokenizer": data.tokenizer}
    return {
        "loss": trained.loss,
        "choice": runner.step("choice", evaluate_choice, run.choice, model=model, **prompting),
        "facts": runner.step("facts", evaluate_facts, run.facts, model=model, **prompting),
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
