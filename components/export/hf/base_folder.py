"""Somebody's model as a folder that transformers saved: the files that are read, their digests.

Nothing else of the folder counts, and none of its code is ever run.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.store.artifact import digest_file, digest_value
from components.export.hf.hf_config import CONFIG_FILE, read_hf_config
from components.export.hf.hf_tensors import INDEX_FILE, weight_files
from components.text.base_record import BaseRecord
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.hf_tokenizer import read_hf_tokenizer
from components.text.chat.house_template import HOUSE_TEMPLATE, HOUSE_TOKENS
from components.text.chat.tokenizer_files import (
    HOUSE_SPECIAL_TOKENS,
    OTHER_FILES,
    SPECIAL_TOKENS_FILE,
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    SpecialTokens,
    copy_tokenizer_files,
    read_fast_tokenizer,
    write_chat_files,
)
from components.text.licence_files import CARD_FILE, find_licence_files, name_licence

log = get_logger(__name__)
_SETTINGS_FILES = (CONFIG_FILE, "generation_config.json", INDEX_FILE)
_TOKENIZER_FILES = (TOKENIZER_FILE, TEMPLATE_FILE, "chat_template.json", SPECIAL_TOKENS_FILE)
_TOKENIZER_CONFIG_FILE = OTHER_FILES[0]


def list_base_files(folder: Path) -> list[Path]:
    """Files of a folder that decide what is imported.

    Raises:
        ConfigError: its weights are a pickle.
        DataError: it holds no weights, or an index of files that are not there.
    """
    names = (*_SETTINGS_FILES, *_TOKENIZER_FILES, *OTHER_FILES, CARD_FILE)
    settings = [folder / name for name in names if (folder / name).is_file()]
    return [*settings, *weight_files(folder), *find_licence_files(folder)]


def digest_base(folder: Path) -> str:
    """Digest of names and contents of the files that are read.

    Raises:
        ConfigError: its weights are a pickle.
        DataError: it holds no weights, or an index of files that are not there.
    """
    return digest_value({path.name: _digest(path) for path in list_base_files(folder)})


def describe_base(folder: Path, name: str) -> BaseRecord:
    """Record of a folder's name, digests and licence.

    Args:
        folder: the transformers folder.
        name: its name, for people to read.

    Raises:
        ConfigError: its weights are a pickle, or of a class that the decoder cannot hold.
        DataError: a file is missing or damaged.
    """
    licence, licence_file = name_licence(folder)
    vocabulary = folder / TOKENIZER_FILE
    return BaseRecord(
        name=name,
        architecture=read_hf_config(folder).hf_class,
        weights={path.name: _digest(path) for path in weight_files(folder)},
        tokenizer=_digest(vocabulary) if vocabulary.is_file() else "",
        licence=licence,
        licence_file=licence_file,
    )


def copy_base_tokenizer(source: Path, target: Path, template: str | None = None) -> ChatTokenizer:
    """Copy a folder's tokenizer with its chat template and the parts of its special tokens.

    Args:
        source: the transformers folder.
        target: where the files go.
        template: a chat template in place of the folder's.

    Raises:
        ConfigError: it has no ``tokenizer.json`` or no usable chat template; names the way on.
        DataError: a file is damaged.
    """
    if template is None and (source / SPECIAL_TOKENS_FILE).is_file():  # an export of this house
        copy_tokenizer_files(source, target)
        return open_tokenizer(target)
    chat = _read_chat(source, template)
    copy_tokenizer_files(source, target)
    _clean_settings(target / _TOKENIZER_CONFIG_FILE, replaced=template is not None)
    write_chat_files(target, *chat)
    return open_tokenizer(target)


def open_base_tokenizer(folder: Path) -> ChatTokenizer:
    """Tokenizer of a transformers folder, or of one of this house, where it lies.

    Raises:
        ConfigError: it has no ``tokenizer.json`` or no usable chat template; names the way on.
        DataError: a file is damaged.
    """
    if (folder / SPECIAL_TOKENS_FILE).is_file():  # this house's
        return open_tokenizer(folder)
    template, special = _read_chat(folder, None)
    return ChatTokenizer(read_fast_tokenizer(folder), template, special, folder.name)


def _read_chat(folder: Path, template: str | None) -> tuple[str, SpecialTokens]:
    """Chat template and special tokens; the house's where its tokens are there and no template."""
    try:
        return read_hf_tokenizer(folder, template)
    except ConfigError:
        if template is not None or not (folder / TOKENIZER_FILE).is_file():
            raise
        words = read_fast_tokenizer(folder)
        if any(words.token_to_id(token) is None for token in HOUSE_TOKENS):
            raise
        return HOUSE_TEMPLATE, HOUSE_SPECIAL_TOKENS


def read_template(file: HashedFile | None) -> str | None:
    """Text of a chat template that a user gives; None for none.

    Raises:
        ConfigError: it is no UTF-8 text.
        DataError: it changed since the run was planned.
    """
    if file is None:
        return None
    try:
        return file.read_content("chat_template").decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"chat_template: {file.name} is no UTF-8 text: {error}") from error


def _clean_settings(path: Path, *, replaced: bool) -> None:
    """Take a replaced template, and the mention of code that is not copied, out of the settings."""
    if not path.is_file():
        return
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    cleaned = dict(settings)
    if replaced:
        cleaned.pop("chat_template", None)
    if cleaned.pop("auto_map", None) is not None:
        log.warning("%s names code of its own (auto_map), which is never run", path.name)
        cleaned["tokenizer_class"] = "PreTrainedTokenizerFast"
    if cleaned != settings:
        text = json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


def _digest(path: Path) -> str:
    """sha256 of a file; computed once a process for each state of it, since weights are large."""
    status = path.stat()
    return _digest_state(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _digest_state(path: Path, size: int, changed: int, inode: int) -> str:
    return digest_file(path)
