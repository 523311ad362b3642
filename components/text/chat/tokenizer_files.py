"""Files of a tokenizer: vocabulary, chat template, special tokens; identity, copies.

tokenizer.json        vocabulary and rules, of Hugging Face's tokenizers
chat_template.jinja   form of a conversation
special_tokens.json   ``SpecialTokens``: which tokens separate texts and end answers

A folder of another program's has ``tokenizer_config.json`` and more beside them (``OTHER_FILES``),
which its exports carry on unchanged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json, digest_value
from components.text.chat.house_template import (
    ANSWER_END,
    GUARD,
    HOUSE_TEMPLATE,
    HOUSE_TOKENS,
    TEXT_SEPARATOR,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_TOKENS_FILE = "special_tokens.json"
OTHER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files by which transformers opens somebody's tokenizer as its own class."""
_MAX_FILE_BYTES = 512 << 20
"""Largest ``tokenizer.json`` that is read; those of 256,000 tokens have 35 MB."""


class SpecialTokens(BaseModel):
    """Content of ``special_tokens.json``: the part that each special token plays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    separator: str
    """Stands before and between texts that a model is trained on or measured by."""
    answer_ends: tuple[str, ...] = Field(min_length=1)
    """Tokens that end an answer, the one that the chat template writes first."""
    stops: tuple[str, ...] = ()
    """Further tokens at which an endpoint stops, so that no answer goes into another's turn."""
    padding: str
    names: dict[str, str] = {}
    """Variables of the chat template: ``bos_token`` and others."""


HOUSE_SPECIAL_TOKENS = SpecialTokens(
    separator=TEXT_SEPARATOR,
    answer_ends=(ANSWER_END,),
    stops=tuple(token for token in HOUSE_TOKENS if token != ANSWER_END),
    padding=TEXT_SEPARATOR,
    names={"bos_token": TEXT_SEPARATOR, "eos_token": ANSWER_END, "pad_token": TEXT_SEPARATOR},
)
"""The parts of the tokens of a tokenizer trained here."""


def write_chat_files(
    folder: Path, template: str = HOUSE_TEMPLATE, special: SpecialTokens = HOUSE_SPECIAL_TOKENS
) -> None:
    """Write chat template and special tokens beside a ``tokenizer.json``.

    Args:
        folder: folder of the tokenizer.
        template: the chat template.
        special: the parts of its special tokens.
    """
    write_atomically(folder / TEMPLATE_FILE, template.encode())
    write_atomically(folder / SPECIAL_TOKENS_FILE, canonical_json(special.model_dump(mode="json")))


def read_chat_files(folder: Path) -> tuple[str, SpecialTokens] | None:
    """Chat template and special tokens of a folder; None where it holds a vocabulary alone.

    Raises:
        DataError: one of the two is missing or damaged.
    """
    template, special = folder / TEMPLATE_FILE, folder / SPECIAL_TOKENS_FILE
    if not special.is_file():
        return None
    try:
        return (
            template.read_text(encoding="utf-8"),
            SpecialTokens.model_validate_json(special.read_bytes()),
        )
    except (OSError, ValueError, ValidationError) as error:
        line = str(error).splitlines()[0]
        raise DataError(f"{folder.name}: the chat template cannot be read: {line}") from error


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copy a tokenizer with all that belongs to it."""
    for name in (TOKENIZER_FILE, TEMPLATE_FILE, SPECIAL_TOKENS_FILE, *OTHER_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def read_fast_tokenizer(folder: Path) -> Tokenizer:
    """The vocabulary and rules of a folder; guards are dropped, nothing is cut or padded.

    Raises:
        DataError: there is no tokenizer.json, or it is damaged.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise DataError(f"{folder.name}: holds no {TOKENIZER_FILE}")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise DataError(f"{folder.name}: {TOKENIZER_FILE} is larger than {_MAX_FILE_BYTES:,} bytes")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower class
        raise DataError(f"{folder.name}: {TOKENIZER_FILE} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return drop_guards(tokenizer)


def drop_guards(tokenizer: Tokenizer) -> Tokenizer:
    """Make a tokenizer drop the guards in special tokens' spellings; it may do so already."""
    from tokenizers.pre_tokenizers import Sequence as Steps
    from tokenizers.pre_tokenizers import Split

    known = tokenizer.pre_tokenizer
    if known is None or known.pre_tokenize_str(GUARD):
        rest = [] if known is None else [known]
        tokenizer.pre_tokenizer = Steps([Split(GUARD, "removed"), *rest])
    return tokenizer


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Rows that a model of the tokenizer has: one more than the largest id, gaps counted."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def tokenizer_digest(folder: Path) -> str:
    """Identity of the tokenizer in ``folder``: sha256 of what decides which text an id stands for.

    That is pieces, merges, added tokens, normalizing, splitting and decoding. Layout of the file,
    defaults that a version of ``tokenizers`` spells out, truncation, padding, post-processing and
    the dropping of guards are no part of it, so that a file which another program saved again stays
    the same tokenizer.

    Raises:
        DataError: there is no tokenizer.json, or it is damaged.
    """
    try:
        content = json.loads((folder / TOKENIZER_FILE).read_bytes())
        model = {key: value for key, value in content["model"].items() if value}
        merges = [
            pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", ())
        ]
        added = sorted((token["id"], token["content"]) for token in content["added_tokens"])
        splitting = list(_splitting(content.get("pre_tokenizer")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder.name}: {TOKENIZER_FILE} cannot be read: {error!r}") from error
    return digest_value(
        {
            "normalizer": content.get("normalizer"),
            "splitting": splitting,
            "decoder": content.get("decoder"),
            "model": {**model, "merges": merges},
            "added_tokens": added,
        }
    )


def _splitting(rule: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Pre-tokenizers in their order, sequences opened, without those that only drop guards."""
    if rule is None:
        return
    if rule["type"] == "Sequence":
        for inner in rule["pretokenizers"]:
            yield from _splitting(inner)
    elif rule.get("pattern") != {"String": GUARD}:
        yield rule
