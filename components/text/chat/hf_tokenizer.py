"""Tokenizers that transformers saved: chat template and special tokens of somebody's model.

Read from ``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja`` and
``generation_config.json``, as transformers reads them, without its code and without pickles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError, DataError
from components.text.chat.template_sandbox import (
    MAX_TEMPLATE_CHARS,
    ChatFormatError,
    ChatTemplate,
)
from components.text.chat.tokenizer_files import (
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    SpecialTokens,
    read_fast_tokenizer,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKEN_FIELDS = (
    *("bos_token", "eos_token", "unk_token", "sep_token"),
    *("pad_token", "cls_token", "mask_token"),
)
_OLD_VOCABULARIES = ("tokenizer.model", "vocab.json", "spiece.model")
_END_OF_TEXT = "<|endoftext|>"
"""Separator of texts in models without a token that begins a text: GPT-2, Qwen, Phi."""
_MAX_JSON_BYTES = 64 << 20
"""Largest settings file; special tokens are listed in it one by one."""
_PROBE = "Probe of the answer."


def read_hf_tokenizer(folder: Path, template: str | None = None) -> tuple[str, SpecialTokens]:
    """Chat template and special tokens of a transformers folder.

    Args:
        folder: the folder.
        template: a chat template in place of the folder's.

    Raises:
        ConfigError: it has no ``tokenizer.json``, no chat template, or none that ends an answer;
            names the way on.
        DataError: a file is damaged.
    """
    check_vocabulary_file(folder)
    backend = read_fast_tokenizer(folder)
    settings = _read_json(folder / "tokenizer_config.json")
    names = dict(_token_names(_read_json(folder / "special_tokens_map.json"), settings))
    known = {name: token for name, token in names.items() if _has_token(backend, token)}
    source = template if template is not None else _find_template(folder, settings)
    if source is None:
        raise ConfigError(
            f"{folder.name}: holds no chat template (a base model before fine-tuning?): give one, "
            "as a Jinja file, by base.chat_template"
        )
    special = {t.content for t in backend.get_added_tokens_decoder().values() if t.special}
    eos = known.get("eos_token")
    end = _find_answer_end(folder, backend, source, known, special)
    if end is None:
        raise ConfigError(
            f"{folder.name}: the chat template writes no special token behind an answer, so a "
            "model would never learn to stop: give one that does by base.chat_template"
        )
    ends = [token for token in (end, eos) if token is not None]
    separator = _find_separator(backend, known, special) or ends[0]
    stops = [token for token in _generation_ends(folder, backend) if token not in ends]
    return source, SpecialTokens(
        separator=separator,
        answer_ends=tuple(dict.fromkeys(ends)),
        stops=tuple(dict.fromkeys(stops)),
        padding=known.get("pad_token", separator),
        names=names,
    )


def check_vocabulary_file(folder: Path) -> None:
    """Refuse a folder without ``tokenizer.json``.

    Raises:
        ConfigError: there is none; of an older vocabulary it says how to convert it.
    """
    if (folder / TOKENIZER_FILE).is_file():
        return
    old = next((name for name in _OLD_VOCABULARIES if (folder / name).exists()), None)
    if old is None:
        raise ConfigError(f"{folder.name}: holds no {TOKENIZER_FILE}")
    raise ConfigError(
        f"{folder.name}: holds {old} and no {TOKENIZER_FILE}, which is the one that is read; "
        "transformers writes it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a settings file; empty where there is none."""
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise DataError(f"{path.parent.name}: {path.name} is larger than {_MAX_JSON_BYTES:,} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path.parent.name}: {path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.parent.name}: {path.name} is no JSON object")
    return content


def _token_names(*settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(variable of the template, token), later settings last; a token is text or an object."""
    for content in settings:
        for name in _TOKEN_FIELDS:
            value = content.get(name)
            token = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(token, str):
                yield name, token


def _has_token(backend: Tokenizer, token: str) -> bool:
    return backend.token_to_id(token) is not None


def _find_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Chat template of a folder, where transformers looks for it; of several the default one."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        if path.stat().st_size > 4 * MAX_TEMPLATE_CHARS:
            raise DataError(f"{folder.name}: {TEMPLATE_FILE} is larger than a template may be")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{folder.name}: {TEMPLATE_FILE} cannot be read: {error}") from error
    held = settings.get("chat_template") or _read_json(folder / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(held, list):
        named = {t.get("name"): t.get("template") for t in held if isinstance(t, Mapping)}
        held = named.get("default")
    return held if isinstance(held, str) else None


def _find_answer_end(
    folder: Path, backend: Tokenizer, source: str, names: Mapping[str, str], special: set[str]
) -> str | None:
    """The first special token that the template writes behind an answer.

    Args:
        folder: named in errors.
        backend: the tokenizer.
        source: the chat template.
        names: variables of the special tokens.
        special: all special tokens.
    """
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": _PROBE}]
    try:
        text = ChatTemplate(source, names).render(turns, today=False)
    except ChatFormatError as error:
        raise ConfigError(
            f"{folder.name}: the chat template refuses a question and its answer: {error}"
        ) from error
    behind = backend.encode(text.rpartition(_PROBE)[2], add_special_tokens=False).tokens
    return next((token for token in behind if token in special), None)


def _find_separator(backend: Tokenizer, names: Mapping[str, str], special: set[str]) -> str | None:
    """Token in front of a text: the one that the tokenizer writes there, else of texts' ends."""
    first = backend.encode("a", add_special_tokens=True).tokens[:1]
    begins = names.get("bos_token")
    if begins is not None and first == [begins]:
        return begins
    return _END_OF_TEXT if _END_OF_TEXT in special else names.get("eos_token", begins)


def _generation_ends(folder: Path, backend: Tokenizer) -> list[str]:
    """Tokens at which the folder's ``generation_config.json`` stops."""
    held = _read_json(folder / "generation_config.json").get("eos_token_id")
    numbers = held if isinstance(held, list) else [held]
    tokens = [backend.id_to_token(n) for n in numbers if isinstance(n, int) and n >= 0]
    return [token for token in tokens if token is not None]
