"""Fine-tuning pipeline: somebody's model and a team's own conversations in, a served model out.

Nothing is crawled and nothing is pretrained. The base brings its own tokenizer, chat template and
special tokens, which every later step takes from it; what is measured on text is measured on the
conversations. Steps are called as in ``text.py``, of one straight line too.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.clean.conversations.read_conversations import read_conversations
from components.core.store.artifact import Checkpoint, Dataset, Tokenizer
from components.evaluate.bits_per_byte import evaluate_loss
from components.export.hf.import_base import BaseConfig, import_base, import_base_tokenizer
from components.publish.dataset.corpus_drift import measure_change
from components.publish.dataset.push_dataset import push_dataset
from components.tokenize.instructions import make_instructions
from components.tokenize.pack_tokens import pack_tokens
from components.train.sft import finetune
from flows.configs.text_run import TextRun
from flows.pipelines.model_steps import (
    PublishedModel,
    TrainedModel,
    TrainingData,
    align,
    evaluate_answers,
    export,
    publish,
    read_judged_answers,
)
from flows.runner.runner import Runner


@dataclass(frozen=True)
class BaseModel:
    """Somebody's model, and its own tokenizer."""

    model: Checkpoint
    tokenizer: Tokenizer


@dataclass(frozen=True)
class OwnConversations:
    """Conversations as training data, and their version in DVC."""

    data: TrainingData
    dataset: Dataset


def finetune_pipeline(run: TextRun, base: BaseConfig, runner: Runner) -> PublishedModel:
    """Run the whole pipeline: import, prepare, fine-tune, align, evaluate, export, publish.

    Args:
        run: config of every stage.
        base: folder of the model to start from.
        runner: executes or plans the steps.
    """
    imported = import_model(base, runner)
    own = prepare_conversations(run, runner, imported.tokenizer)
    trained = adapt_model(run, runner, imported.model, own.data)
    reports = {"loss": trained.loss, **evaluate_answers(run, runner, own.data, trained)}
    exported = export(run, runner, own.data, trained.model)
    return publish(run, runner, own.dataset, trained.model, exported, reports)


def import_model(base: BaseConfig, runner: Runner) -> BaseModel:
    """Somebody's folder -> a checkpoint and a tokenizer; what cannot be used is refused here.

    Args:
        base: the folder, and a chat template in place of its own.
    """
    tokenizer = runner.step("tokenizer", import_base_tokenizer, base)
    model = runner.step("base", import_base, base)
    return BaseModel(model, tokenizer)


def prepare_conversations(run: TextRun, runner: Runner, tokenizer: Tokenizer) -> OwnConversations:
    """Files of conversations -> instructions, and their text as tokens, with one split for both.

    The tokens are measured on (bits per byte, parity, copies), not trained on.

    Args:
        tokenizer: that of the base.
    """
    corpus = runner.step("conversations", read_conversations, run.resolved_conversations)
    runner.action("change", measure_change, run.resolved_change, corpus=corpus)
    dataset = runner.action("dataset", push_dataset, run.dataset, corpus=corpus)
    instructions = runner.step(
        "instructions", make_instructions, run.instructions, conversations=corpus
    )
    tokens = runner.step("tokens", pack_tokens, run.tokens, corpus=corpus, tokenizer=tokenizer)
    judged = read_judged_answers(run, runner)
    return OwnConversations(TrainingData(tokenizer, tokens, instructions, judged), dataset)


def adapt_model(run: TextRun, runner: Runner, base: Checkpoint, data: TrainingData) -> TrainedModel:
    """Base -> a fine-tuned model, whole or by adapters, and an aligned one; the best goes on.

    Args:
        base: the imported model, which is measured too.
        data: tokens, tokenizer and instructions.
    """
    loss = runner.step("loss", evaluate_loss, run.loss, model=base, tokens=data.tokens)
    # Without tokens: replaying the conversations' text would teach the users' turns.
    sft = runner.step(
        "sft",
        finetune,
        run.sft,
        model=base,
        instructions=data.instructions,
        tokenizer=data.tokenizer,
    )
    return TrainedModel(align(run, runner, data, sft), sft, loss)
