"""Import of a transformers folder's tokenizer, with its chat template and its special tokens.

modelmill stage import_tokenizer --input PATH --output DIR
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Export, Tokenizer
from components.core.store.workdir import Workdir
from components.export.hf.base_folder import copy_base_tokenizer, read_template


class ImportTokenizerConfig(StageConfig):
    """Chat template of an imported tokenizer."""

    chat_template: HashedFile | None = Field(
        default=None, description="Jinja file of a chat template in place of the folder's"
    )


def import_tokenizer(config: ImportTokenizerConfig, folder: Export, work: Workdir) -> Tokenizer:
    """Copy vocabulary, template and settings, and find the parts of the special tokens.

    Args:
        config: a chat template, for a folder without one.
        folder: the transformers folder; its weights are not read.
        work: where the tokenizer is written.

    Raises:
        ConfigError: it has no ``tokenizer.json`` or no usable chat template; names the way on.
        DataError: a file is damaged.
    """
    return seal_tokenizer(work.artifact_folder(folder), config.chat_template, work)


def seal_tokenizer(source: Path, template: HashedFile | None, work: Workdir) -> Tokenizer:
    """Copy the tokenizer of a transformers folder anywhere.

    Args:
        source: the folder.
        template: a chat template in place of the folder's.
        work: where the tokenizer is written.

    Raises:
        ConfigError: as of ``import_tokenizer``.
        DataError: a file is damaged.
    """
    words = copy_base_tokenizer(source, work.folder, read_template(template))
    stats = {
        "vocabulary": float(words.vocabulary),
        "special_tokens": float(len(words.special_tokens)),
    }
    return work.seal(Tokenizer, stats=stats)
