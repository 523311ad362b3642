"""Identity of tokenizers across artifacts: token ids mean something under the one that made them.

Tokens, preferences and checkpoints record the digest of their tokenizer, and a stage compares it
wherever two of them meet, or one meets a tokenizer. Old artifacts record none; of those only the
sizes of the vocabularies can be compared (``infra/decisions/0021``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.store.artifact import canonical_json
from components.text.chat.tokenizer_files import (
    read_fast_tokenizer,
    tokenizer_digest,
    vocabulary_size,
)
from components.text.decoder_files import read_shape, read_tokenizer_digest
from components.text.token_arrays import read_meta

log = get_logger(__name__)
DIGEST_FILE = "tokenizer_digest.json"
_DIGEST_CHARACTERS_SHOWN = 12
"""In messages: 48 bits tell any two tokenizers of a store apart."""


@dataclass(frozen=True)
class TokenizerRecord:
    """Record of the tokenizer that an artifact's token ids belong to."""

    artifact: str
    """``the model NAME``, as errors call it."""
    digest: str
    """Empty where none is recorded."""
    vocabulary: int | None
    """Token ids below which all are; None where it is not recorded."""

    def __str__(self) -> str:
        digest = f"tokenizer {self.digest[:_DIGEST_CHARACTERS_SHOWN] or 'not recorded'}"
        size = "" if self.vocabulary is None else f"vocabulary of {self.vocabulary}, "
        return f"{self.artifact} ({size}{digest})"

    def agrees(self, other: TokenizerRecord) -> bool:
        """True unless something differs that both record."""
        pairs = ((self.digest, other.digest), (self.vocabulary, other.vocabulary))
        return all(not ours or not theirs or ours == theirs for ours, theirs in pairs)


def record_of_model(folder: Path, role: str = "model") -> TokenizerRecord:
    """The tokenizer of a checkpoint.

    Raises:
        DataError: it is damaged.
    """
    size = read_shape(folder).vocabulary
    return TokenizerRecord(f"the {role} {folder.name}", read_tokenizer_digest(folder), size)


def record_of_tokens(folder: Path, role: str = "tokens") -> TokenizerRecord:
    """The tokenizer that packed a Tokens artifact.

    Raises:
        DataError: it is damaged.
    """
    meta = read_meta(folder)
    return TokenizerRecord(f"the {role} {folder.name}", meta.tokenizer, meta.vocabulary)


def record_of_tokenizer(folder: Path, role: str = "tokenizer") -> TokenizerRecord:
    """A tokenizer itself.

    Raises:
        DataError: it is damaged.
    """
    size = vocabulary_size(read_fast_tokenizer(folder))
    return TokenizerRecord(f"the {role} {folder.name}", tokenizer_digest(folder), size)


def write_tokenizer_digest(folder: Path, digest: str) -> None:
    """Record the tokenizer of an artifact's token ids in ``tokenizer_digest.json``."""
    write_atomically(folder / DIGEST_FILE, canonical_json({"tokenizer": digest}))


def record_of_preferences(folder: Path) -> TokenizerRecord:
    """The tokenizer of the sampled answers' token ids.

    Raises:
        DataError: the record is damaged.
    """
    path = folder / DIGEST_FILE
    try:
        digest = str(json.loads(path.read_bytes())["tokenizer"]) if path.is_file() else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder.name}: {path.name} cannot be read: {error!r}") from error
    return TokenizerRecord(f"the preferences {folder.name}", digest, None)


def check_one_tokenizer(stage: str, *records: TokenizerRecord) -> str:
    """Refuse artifacts of different tokenizers; returns the digest of the one they share.

    Where an artifact records none, a warning says so, and the sizes alone are compared.

    Args:
        stage: begins the message.

    Raises:
        ConfigError: two are of different tokenizers; names both.
    """
    for first, second in combinations(records, 2):
        if not first.agrees(second):
            raise ConfigError(
                f"{stage}: {first} and {second} are of different tokenizers: token ids of one mean "
                f"other text under the other, so give two of one tokenizer"
                f"{_padding_advice(first, second)}"
            )
    silent = [str(record) for record in records if not record.digest]
    if silent:
        log.warning(
            "%s: %s: no more than sizes of vocabularies could be compared",
            *(stage, ", ".join(silent)),
        )
    return next((record.digest for record in records if record.digest), "")


def _padding_advice(*records: TokenizerRecord) -> str:
    """The way on where sizes alone differ, as those of a model with padded embeddings do."""
    if all(record.digest for record in records):
        return ""
    return " (import_hf cuts a model's unused rows where its tokenizer.json lies beside it)"
