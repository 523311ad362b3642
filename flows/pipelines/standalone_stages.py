"""Stages outside the pipeline, which ``modelmill stage`` runs on a user's own files."""

from __future__ import annotations

from components.clean.conversations.read_conversations import read_conversations
from components.core.store.artifact import Adapter, Checkpoint, Export, Tokens, placeholder_artifact
from components.export.hf.import_hf import ImportConfig, import_hf
from components.train.adapt import adapt
from components.train.distill import distill
from components.train.merge import merge
from flows.configs.text_run import TextRun
from flows.runner.runner import Runner


def declare_standalone_stages(run: TextRun, runner: Runner) -> None:
    """Declare each stage on the runner, with placeholders for the inputs that the user gives."""
    if not run.instructions.files:  # with files it is a step of the pipeline
        runner.step("conversations", read_conversations, run.resolved_conversations)
    model, tokens = placeholder_artifact(Checkpoint), placeholder_artifact(Tokens)
    adapter = placeholder_artifact(Adapter)
    runner.step("adapt", adapt, run.adapt, model=model, tokens=tokens)
    runner.step("distill", distill, run.distill, teacher=model, tokens=tokens)
    runner.step("merge", merge, run.merge, model=model, adapter=adapter)
    runner.step("import_hf", import_hf, ImportConfig(), folder=placeholder_artifact(Export))
