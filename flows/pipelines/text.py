"""Pages -> a served text model: the whole chain, as one straight line.

Read it top to bottom; each line names a stage, its component, its config and its inputs. It never
looks inside a reference, so it runs under Prefect, without any server, and as a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.align.ppo import ppo
from components.align.preferences import make_preferences
from components.align.reward_model import train_reward
from components.clean.boilerplate.score import score_boilerplate
from components.clean.boilerplate.train_classifier import train_classifier
from components.clean.contamination.score import score_contamination
from components.clean.duplicates.score import score_duplicates
from components.clean.language.score import score_language
from components.clean.language.train_languages import train_languages
from components.clean.licence.score import score_licence
from components.clean.passages.score import score_passages
from components.clean.pii.score import score_pii
from components.clean.quality.score import score_quality
from components.clean.quality_classifier.score import score_judged
from components.clean.quality_classifier.train_judge import train_judge
from components.clean.select import select
from components.clean.site_lines.score import score_site_lines
from components.collect.extract import extract
from components.collect.scrape import ScrapeConfig, scrape
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
from flows.runner.runner import Mill, Resolve
from serving.bento.build_bento import package
from serving.smoke_test import smoke


@dataclass(frozen=True)
class Curated:
    """The corpus that passed every rule and the check, what the check saw, its version in DVC."""

    corpus: Corpus
    check: Report
    dataset: Dataset


@dataclass(frozen=True)
class Packed:
    """What a model is trained on."""

    tokenizer: Tokenizer
    tokens: Tokens
    instructions: Instructions


@dataclass(frozen=True)
class Trained:
    """The best model and what was found out about it."""

    model: Checkpoint
    reports: dict[str, Report]


@dataclass(frozen=True)
class Served:
    """Where the run ends: a promoted version and the Bento that answered for it."""

    version: ModelVersion
    bento: Bento


def text(run: TextRun, mill: Mill, resolve: Resolve[ScrapeConfig]) -> Served:
    """The whole chain."""
    curated = curate(run, mill, resolve)
    packed = pack(run, mill, curated.corpus)
    trained = train(run, mill, packed)
    exported = shrink(run, mill, trained.model, packed)
    return publish(run, mill, curated, trained, exported)


def curate(run: TextRun, mill: Mill, resolve: Resolve[ScrapeConfig]) -> Curated:
    """Raw pages -> a checked corpus. Scorers do not see each other; ``select`` sees them all."""
    pages = mill.source("scrape", scrape, run.scrape, resolve)
    raw = mill.step("extract", extract, run.extract, pages=pages)
    classifier = mill.step("classifier", train_classifier, run.classifier, corpus=raw)
    good = mill.step("quality_judge", train_judge, run.quality_judge)
    toxic = mill.step("toxicity_judge", train_judge, run.toxicity_judge)
    languages = mill.step("language_model", train_languages, run.language_model)
    scores = {
        "language": mill.step(
            "language", score_language, run.language, corpus=raw, languages=languages
        ),
        "quality": mill.step("quality", score_quality, run.quality, corpus=raw),
        "judged_quality": mill.step(
            "judged_quality", score_judged, run.judged_quality, corpus=raw, judge=good
        ),
        "toxicity": mill.step("toxicity", score_judged, run.toxicity, corpus=raw, judge=toxic),
        "pii": mill.step("pii", score_pii, run.pii, corpus=raw),
        "duplicates": mill.step("duplicates", score_duplicates, run.duplicates, corpus=raw),
        "passages": mill.step("passages", score_passages, run.passages, corpus=raw),
        "boilerplate": mill.step(
            "boilerplate", score_boilerplate, run.boilerplate, corpus=raw, classifier=classifier
        ),
        "site_lines": mill.step("site_lines", score_site_lines, run.site_lines, corpus=raw),
        "contamination": mill.step(
            "contamination", score_contamination, run.contamination, corpus=raw
        ),
        "licence": mill.step("licence", score_licence, run.licence, corpus=raw),
    }
    corpus = mill.step("select", select, run.select, corpus=raw, scores=scores)
    check = mill.step("check", check_corpus, run.checked, corpus=corpus)
    mill.act("change", measure_change, run.compared, corpus=corpus)
    dataset = mill.act("dataset", push_dataset, run.dataset, corpus=corpus)
    return Curated(corpus, check, dataset)


def pack(run: TextRun, mill: Mill, corpus: Corpus) -> Packed:
    """A corpus -> tokens and instructions, both split by page."""
    tokenizer = mill.step("tokenizer", train_tokenizer, run.tokenizer, corpus=corpus)
    tokens = mill.step("tokens", pack_tokens, run.tokens, corpus=corpus, tokenizer=tokenizer)
    instructions = mill.step(
        "instructions", make_instructions, run.instructions, corpus=corpus, tokens=tokens
    )
    return Packed(tokenizer, tokens, instructions)


def train(run: TextRun, mill: Mill, packed: Packed) -> Trained:
    """Tokens -> a base model, a helpful one, an aligned one; the best goes on and is measured."""
    told = {"instructions": packed.instructions, "tokenizer": packed.tokenizer}
    base = mill.step(
        "pretrain", pretrain, run.pretrain, tokens=packed.tokens, tokenizer=packed.tokenizer
    )
    loss = mill.step("loss", evaluate_loss, run.loss, model=base, tokens=packed.tokens)
    sft = mill.step("sft", finetune, run.sft, model=base, tokens=packed.tokens, **told)
    preferences = mill.step("preferences", make_preferences, run.preferences, policy=sft, **told)
    reward = mill.step(
        "reward",
        train_reward,
        run.reward,
        policy=sft,
        preferences=preferences,
        tokenizer=packed.tokenizer,
    )
    aligned = {"ppo": mill.step("ppo", ppo, run.ppo, policy=sft, reward=reward, **told)}
    model = mill.step(
        "keep_best",
        keep_best,
        run.keep_best,
        incumbent=sft,
        candidates=aligned,
        tokens=packed.tokens,
        **told,
    )
    return Trained(model, {"loss": loss, **evaluate(run, mill, packed, model, sft)})


def evaluate(
    run: TextRun, mill: Mill, packed: Packed, model: Checkpoint, sft: Checkpoint
) -> dict[str, Report]:
    """Reports on the model that goes on, over the held-out pages that did not choose it."""
    told = {"instructions": packed.instructions, "tokenizer": packed.tokenizer}
    return {
        "choice": mill.step("choice", evaluate_choice, run.choice, model=model, **told),
        "facts": mill.step("facts", evaluate_facts, run.facts, model=model, **told),
        "compare": mill.step(
            "compare", compare_policies, run.compare, policy=model, baseline=sft, **told
        ),
        "safety": mill.step(
            "safety", evaluate_safety, run.safety, model=model, tokens=packed.tokens, **told
        ),
    }


def shrink(run: TextRun, mill: Mill, model: Checkpoint, packed: Packed) -> Bundle:
    """One model in every form, each compared with the torch model on held-out pages."""
    tokens, tokenizer = packed.tokens, packed.tokenizer
    onnx = mill.step("onnx", export_onnx, run.onnx, model=model, tokens=tokens, tokenizer=tokenizer)
    exports = {
        "hf": mill.step(
            "hf", export_hf, run.exported, model=model, tokenizer=tokenizer, tokens=tokens
        ),
        "onnx": onnx,
        "onnx-int8": mill.step("int8", quantize, run.int8, model=model, onnx=onnx, tokens=tokens),
        "tensorrt": mill.step("engine", export_engine, run.engine, model=model, tokens=tokens),
    }
    return mill.step(
        "bundle", bundle, run.bundle, model=model, tokenizer=tokenizer, exports=exports
    )


def publish(
    run: TextRun, mill: Mill, curated: Curated, trained: Trained, exported: Bundle
) -> Served:
    """A bundle -> a registered, packed, tried and only then promoted version."""
    reports = {"check": curated.check, **trained.reports}
    version = mill.act(
        "register",
        register,
        run.registered,
        bundle=exported,
        model=trained.model,
        dataset=curated.dataset,
        reports=reports,
    )
    bento = mill.act("package", package, run.package, version=version, bundle=exported)
    tried = mill.act("smoke", smoke, run.smoke, bento=bento)
    promoted = mill.act(
        "promote",
        promote,
        run.promote,
        version=version,
        bento=bento,
        reports={**reports, "smoke": tried},
    )
    mill.act("dossier", write_dossier, run.priced, version=promoted, bento=bento)
    return Served(promoted, bento)
