"""Stages that the chain does not take: ``modelmill stage`` runs them on a user's own files."""

from __future__ import annotations

from typing import TypeVar

from components.core.store.artifact import Adapter, Artifact, Checkpoint, Export, Lineage, Tokens
from components.export.hf.import_hf import ImportConfig, import_hf
from components.train.adapt import adapt
from components.train.distill import distill
from components.train.merge import merge
from flows.configs.text_run import TextRun
from flows.runner.past_runs import UNKNOWN
from flows.runner.runner import Mill

A = TypeVar("A", bound=Artifact)


def beside(run: TextRun, mill: Mill) -> None:
    """Each with the inputs that the user gives."""
    model, tokens, adapter = _given(Checkpoint), _given(Tokens), _given(Adapter)
    mill.step("adapt", adapt, run.adapt, model=model, tokens=tokens)
    mill.step("distill", distill, run.distill, teacher=model, tokens=tokens)
    mill.step("merge", merge, run.merge, model=model, adapter=adapter)
    mill.step("import_hf", import_hf, ImportConfig(), folder=_given(Export))


def _given(kind: type[A]) -> A:
    """Stands in for an artifact that only the command line will name."""
    lineage = Lineage(component=UNKNOWN, code="", config="")
    return kind(name=UNKNOWN, digest=UNKNOWN, lineage=lineage)
