"""Somebody's model as the start of a run: weights, and its own tokenizer and chat template.

The folder is named in the run's config with the digest of the files that are read, so an edited
folder is imported again, and what comes out equal leaves everything after it cached.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, MillError
from components.core.store.artifact import Checkpoint, Tokenizer
from components.core.store.workdir import Workdir
from components.export.hf.base_folder import digest_base
from components.export.hf.hf_config import CONFIG_FILE, read_hf_config
from components.export.hf.import_hf import ImportConfig, import_folder, limit_context
from components.export.hf.import_tokenizer import seal_tokenizer
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.hf_tokenizer import check_vocabulary_file
from components.text.chat.token_bytes import token_bytes
from models.shape import DecoderShape


class BaseConfig(StageConfig):
    """Folder of somebody's model, with the digest of its files."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"]})

    path: str = Field(
        description="folder of the model as transformers saves it: config.json, safetensors, "
        "tokenizer.json; the path alone may stand in place of this group"
    )
    sha256: str = Field(description="digest of the files that are read; computed when left out")
    chat_template: HashedFile | None = Field(
        default=None,
        description="Jinja file of a chat template in place of the folder's, or for one without",
    )
    context: int | None = Field(
        default=4096,
        ge=16,
        description="longest context that is kept, in tokens: the endpoint's memory grows with it; "
        "null keeps all of the base's",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_digest(cls, value: Any) -> Any:
        fields = {"path": value} if isinstance(value, str) else value
        if not isinstance(fields, dict) or "sha256" in fields or "path" not in fields:
            return fields
        folder = Path(str(fields["path"])).expanduser()
        try:
            _check_folder(folder)
            digest = digest_base(folder)
        except MillError as error:  # a class, a pickle, a missing file: refused before a run begins
            raise ValueError(str(error)) from error
        return {**fields, "path": str(folder.resolve()), "sha256": digest}

    @property
    def name(self) -> str:
        """Name by which the model card calls the base: that of the folder, or in a cache of
        downloads (``models--OWNER--NAME/snapshots/REVISION``) that of the model.
        """
        folder = Path(self.path)
        if folder.parent.name == "snapshots":
            return folder.parents[1].name.removeprefix("models--").replace("--", "/")
        return folder.name

    def read_shape(self) -> DecoderShape | None:
        """Shape of the model; None where the folder is gone, as after its import it may be."""
        try:
            return limit_context(read_hf_config(Path(self.path)), self.context)
        except MillError:
            return None

    def open_folder(self) -> Path:
        """The folder, its content as the run was planned with.

        Raises:
            DataError: it is gone or changed.
        """
        folder = Path(self.path)
        if not folder.is_dir() or digest_base(folder) != self.sha256:
            raise DataError(f"base: the folder {self.name} is gone or changed; run again")
        return folder


def _check_folder(folder: Path) -> None:
    """Refuse what is no folder of a model that can be read.

    Raises:
        ConfigError: it is of a class that the decoder cannot hold, or has no ``tokenizer.json``.
        DataError: a file is missing or damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    if not (folder / CONFIG_FILE).is_file():
        raise DataError(
            f"{folder} holds no {CONFIG_FILE}; give the folder of a model as transformers saves it"
        )
    read_hf_config(folder)
    check_vocabulary_file(folder)


def import_base_tokenizer(config: BaseConfig, work: Workdir) -> Tokenizer:
    """Read the tokenizer of the base, with its chat template and special tokens.

    Args:
        config: the folder, and a chat template in place of its own.
        work: where the tokenizer is written.

    Raises:
        ConfigError: it has no usable chat template, or is of pieces that no endpoint can stream;
            names the way on.
        DataError: the folder changed, or a file is damaged.
    """
    sealed = seal_tokenizer(config.open_folder(), config.chat_template, work)
    token_bytes(open_tokenizer(work.artifact_folder(sealed)))  # else only the endpoint would see it
    return sealed


def import_base(config: BaseConfig, work: Workdir) -> Checkpoint:
    """Read the weights of the base, cut to its tokenizer's vocabulary, with its record.

    Args:
        config: the folder, and a chat template in place of its own.
        work: where the checkpoint is written.

    Raises:
        ConfigError: a tensor that the decoder cannot hold, or a tokenizer that does not fit.
        DataError: the folder changed, or a file is damaged.
    """
    choices = ImportConfig(
        tokenizer=True, chat_template=config.chat_template, context=config.context
    )
    return import_folder(config.open_folder(), choices, work, config.name)
