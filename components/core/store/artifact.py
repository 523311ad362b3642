"""Artifacts: small, frozen references to sealed folders, which flow between stages."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

MANIFEST_FILE = "artifact.json"
SET_ASIDE_PREFIX = "set_aside_"
"""Prefix of stats that count what a stage set aside, by reason."""
DROPPED_BY_PREFIX = "dropped_by_"
"""Prefix of stats that count dropped documents, by rule."""
VOLATILE_FOLDER = "volatile"


def component_name(component: Callable[..., Any]) -> str:
    """Dotted name of a component: ``components.clean.quality.score.score_quality``."""
    return f"{component.__module__}.{component.__qualname__}"


class Lineage(BaseModel):
    """Provenance of an artifact: component, code, config and parents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str = Field(description="dotted name of the function that made it")
    code: str = Field(description="digest of that function's code and all it imports")
    config: str = Field(description="digest of its config")
    parents: dict[str, str] = Field(default={}, description="role -> digest of each input")


class Artifact(BaseModel):
    """Reference to one sealed folder; the subclass is its kind, ``digest`` names its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: ClassVar[str] = "artifact/1"

    name: str = Field(description="folder, relative to the store's root")
    digest: str = Field(description="sha256 over sorted file names and contents")
    lineage: Lineage
    stats: dict[str, float] = Field(default={}, description="finite figures, outside the digest")
    note: str = Field(
        default="", description="outcome in one line, for a stage without a telling figure"
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
    """One scorer's results by document: same shards, ids and order as the corpus."""

    format: ClassVar[str] = "scores/1"


class Classifier(Artifact):
    """Trained model that a scorer applies, with its labels and held-out figures."""

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
    """Model: ``model.json`` (shape), ``model.safetensors`` (weights), and its loss curve."""

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
    """Corpus version under DVC."""

    format: ClassVar[str] = "dataset/1"


class ModelVersion(Artifact):
    """Version in the MLflow registry."""

    format: ClassVar[str] = "model-version/1"


class Bento(Artifact):
    """BentoML package of one version: model, code and requirements."""

    format: ClassVar[str] = "bento/1"


Inputs = Mapping[str, "Artifact | Mapping[str, Artifact]"]


def canonical_json(value: Any) -> bytes:
    """Canonical JSON, equal bytes for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_value(value: Any) -> str:
    """sha256 (hex) of a JSON-safe value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 (hex) of one file's content, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """sha256 over sorted relative names and contents, the manifest and ``volatile/`` left out."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] == VOLATILE_FOLDER or name == Path(MANIFEST_FILE):
            continue
        total.update(f"{name.as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def find_odd_entries(folder: Path) -> list[str]:
    """Names below a folder that are no plain file and no folder: links, pipes, sockets, devices.

    A link would give the artifact content that its digest and its readers do not hold fast.
    """
    odd = [p for p in folder.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    return sorted(path.relative_to(folder).as_posix() for path in odd)


A = TypeVar("A", bound=Artifact)
UNKNOWN = "?"
"""Name and digest of an artifact that does not exist yet."""


def placeholder_artifact(kind: type[A], lineage: Lineage | None = None) -> A:
    """Stand-in, in a plan, for an artifact that does not exist yet."""
    nothing = Lineage(component=UNKNOWN, code="", config="")
    return kind(name=UNKNOWN, digest=UNKNOWN, lineage=lineage or nothing)


def parent_digests(inputs: Inputs) -> dict[str, str]:
    """Role -> digest; each entry of a mapping gets a role of its own: ``scores.language``."""
    roles: dict[str, str] = {}
    for role, artifact_or_mapping in inputs.items():
        if isinstance(artifact_or_mapping, Artifact):
            roles[role] = artifact_or_mapping.digest
        else:
            roles.update(
                {f"{role}.{key}": artifact.digest for key, artifact in artifact_or_mapping.items()}
            )
    return roles
