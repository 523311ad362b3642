"""What flows between stages: small, frozen references to sealed folders, never payloads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

MANIFEST = "artifact.json"
ASIDE = "set_aside_"
"""Begins the names of stats that count what a stage left out, by reason."""
DROPPED_BY = "dropped_by_"
"""Begins the names of stats that count documents dropped, by rule."""
VOLATILE = "volatile"


class Lineage(BaseModel):
    """Where an artifact comes from: enough to say why it is what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str = Field(description="dotted name of the function that made it")
    code: str = Field(description="digest of that function's code and all it imports")
    config: str = Field(description="digest of its config")
    parents: dict[str, str] = Field(default={}, description="role -> digest of each input")


class Artifact(BaseModel):
    """A reference to one sealed folder. Subclasses name the kind; ``digest`` names the content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: ClassVar[str] = "artifact/1"

    name: str = Field(description="where it lies, relative to the store's root")
    digest: str = Field(description="sha256 over sorted file names and contents")
    lineage: Lineage
    stats: dict[str, float] = Field(default={}, description="finite figures, outside the digest")
    note: str = Field(
        default="", description="one line on how it came out, where a figure does not say it"
    )

    @field_validator("stats")
    @classmethod
    def _finite(cls, stats: dict[str, float]) -> dict[str, float]:
        wrong = {name: value for name, value in stats.items() if not math.isfinite(value)}
        if wrong:
            raise ValueError(f"stats must be finite, not {wrong}")
        return stats


class Pages(Artifact):
    """WARC shards and the fetch ledger of one crawl."""

    format: ClassVar[str] = "pages/1"


class Corpus(Artifact):
    """zstd Parquet shards of ``Document`` rows, sorted by id within a shard."""

    format: ClassVar[str] = "corpus/1"


class Scores(Artifact):
    """What one scorer found in each document: same shards, ids and order as the corpus."""

    format: ClassVar[str] = "scores/1"


class Classifier(Artifact):
    """A trained model that a scorer applies, with its labels and held-out figures."""

    format: ClassVar[str] = "classifier/1"


class Tokenizer(Artifact):
    """``tokenizer.json`` of Hugging Face tokenizers."""

    format: ClassVar[str] = "tokenizer/1"


class Tokens(Artifact):
    """Token shards with document boundaries, split into train and held-out by page."""

    format: ClassVar[str] = "tokens/1"


class Instructions(Artifact):
    """Questions with reference answers, split into train and held-out by page."""

    format: ClassVar[str] = "instructions/1"


class Preferences(Artifact):
    """Pairs of answers to one question, the better one named, with each principle's vote."""

    format: ClassVar[str] = "preferences/1"


class Checkpoint(Artifact):
    """A model: ``model.json`` (shape) and ``model.safetensors`` (weights), with its loss curve."""

    format: ClassVar[str] = "checkpoint/1"


class Adapter(Artifact):
    """Low-rank adapters alone: ``adapter_config.json`` and ``adapter_model.safetensors``."""

    format: ClassVar[str] = "adapter/1"


class Report(Artifact):
    """Figures with intervals, in ``report.json``."""

    format: ClassVar[str] = "report/1"


class Export(Artifact):
    """One exported form of a model, with ``parity.json``: how far it is from the torch model."""

    format: ClassVar[str] = "export/1"


class Bundle(Artifact):
    """One model in every exported form, each with its parity record."""

    format: ClassVar[str] = "bundle/1"


class Dataset(Artifact):
    """A corpus version that DVC holds."""

    format: ClassVar[str] = "dataset/1"


class ModelVersion(Artifact):
    """A version in the MLflow registry."""

    format: ClassVar[str] = "model-version/1"


class Bento(Artifact):
    """A built Bento."""

    format: ClassVar[str] = "bento/1"


Inputs = Mapping[str, "Artifact | Mapping[str, Artifact]"]


def canonical(value: Any) -> bytes:
    """JSON bytes that are equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_value(value: Any) -> str:
    """sha256 (hex) of a JSON-safe value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 (hex) of one file's content, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """sha256 over sorted relative names and contents, the manifest and ``volatile/`` left out."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] == VOLATILE or name == Path(MANIFEST):
            continue
        total.update(f"{name.as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def parents_of(inputs: Inputs) -> dict[str, str]:
    """role -> digest; a mapping of artifacts gives one role an entry: ``scores.language``."""
    roles: dict[str, str] = {}
    for role, given in inputs.items():
        if isinstance(given, Artifact):
            roles[role] = given.digest
        else:
            roles.update({f"{role}.{key}": artifact.digest for key, artifact in given.items()})
    return roles
