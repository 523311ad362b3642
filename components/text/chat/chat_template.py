"""Chat template: the one form of a conversation in training and in serving.

<|user|>What does json.dumps do?<|assistant|>Serialize obj to a JSON formatted str.<|end|>
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from components.core.errors import DataError
from components.core.store.artifact import digest_value

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
EOS = "<|endoftext|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
SYSTEM = "<|system|>"
END = "<|end|>"
SPECIALS = (EOS, USER, ASSISTANT, SYSTEM, END)
"""Their ids are 0, 1, 2, 3, 4 in every tokenizer trained here."""
EOS_ID, END_ID = SPECIALS.index(EOS), SPECIALS.index(END)
STOP_IDS = (END_ID, *(index for index in range(len(SPECIALS)) if index != END_ID))
"""Tokens that end an answer, so that none goes on into somebody's next turn."""
TEMPERATURE = 0.7
"""Of an answer where a request names none: the endpoint's and an exported folder's default."""

_GUARD = "\ufdd0"
"""Stands inside a special token's spelling that is ordinary text: ``<|`` guard ``user|>``. The
tokenizer drops it, yet reads no special token. Unicode keeps it for such uses: no text has it."""
_GUARDED = {_GUARD: "", **{token: f"{token[:2]}{_GUARD}{token[2:]}" for token in SPECIALS}}
_GUARD_FILTERS = "".join(f"|replace('{old}', '{new}')" for old, new in _GUARDED.items())

JINJA = (
    "{% if tools %}{{ raise_exception('tools: this model was trained without them') }}{% endif %}"
    "{% for message in messages %}"
    "{% set place = 'messages.' ~ loop.index0 %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{% if role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception(place ~ \".role: must be 'user', 'assistant', 'system' or 'developer', \""
    " ~ 'the roles this model was trained on, is ' ~ ((role|string)[:40]|tojson)) }}"
    "{% endif %}"
    "{% if message['tool_calls'] %}"
    "{{ raise_exception(place ~ '.tool_calls: this model was trained without them') }}"
    "{% endif %}"
    "{% set content = message['content'] %}"
    "{% set turn = namespace(text='') %}"
    "{% if content is string %}"
    "{% set turn.text = content %}"
    "{% elif content is defined and content is not none %}"
    "{% if content is mapping or content is not iterable %}"
    "{{ raise_exception(place ~ '.content: must be text, a list of text parts or null') }}"
    "{% endif %}"
    "{% for part in content %}"
    "{% if part is not mapping or part['type'] != 'text' or part['text'] is not string %}"
    "{{ raise_exception(place ~ '.content.' ~ loop.index0 ~ ': must be a text part, '"
    ' ~ \'{"type": "text", "text": "..."}\') }}'
    "{% endif %}"
    "{% set turn.text = turn.text ~ part['text'] %}"
    "{% endfor %}"
    "{% endif %}"
    "{% set text = turn.text" + _GUARD_FILTERS + " %}"
    "{{ '<|' ~ role ~ '|>' }}"
    "{% if role == 'assistant' %}"
    "{% generation %}{{ text ~ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ text }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template, rendered here and by programs that read a transformers folder.

``developer`` is ``system``, text parts are joined, null is empty text, special tokens spelled in a
text stay text; roles, parts and tools that the model never saw are refused by name. ``generation``
holds what is learnt from: answers and their end tokens.
"""


class ChatFormatError(DataError):
    """A conversation that the chat template refuses; its line begins with the place."""


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in ``folder``.

    Raises:
        DataError: there is none, or its special tokens are not ours.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise DataError(f"{folder.name}: holds no {TOKENIZER_FILE}")
    tokenizer = Tokenizer.from_file(str(path))
    for index, token in enumerate(SPECIALS):
        if tokenizer.token_to_id(token) != index:
            raise DataError(f"{path.name}: {token} must be token {index}")
    return drop_guards(tokenizer)


def drop_guards(tokenizer: Tokenizer) -> Tokenizer:
    """Make a tokenizer drop the guards in special tokens' spellings; it may do so already."""
    from tokenizers.pre_tokenizers import Sequence as Steps
    from tokenizers.pre_tokenizers import Split

    known = tokenizer.pre_tokenizer
    if known is None or known.pre_tokenize_str(_GUARD):
        rest = [] if known is None else [known]
        tokenizer.pre_tokenizer = Steps([Split(_GUARD, "removed"), *rest])
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
    elif rule.get("pattern") != {"String": _GUARD}:
        yield rule


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a user's text, in which the special tokens' spellings are ordinary text."""
    for old, new in _GUARDED.items():
        text = text.replace(old, new)
    return tokenizer.encode(text, add_special_tokens=False).ids


@cache
def _template() -> Template:
    """The compiled chat template, under the rules of transformers' environment."""
    from jinja2 import Environment

    def raise_exception(message: str) -> NoReturn:
        raise ChatFormatError(message)

    # Plain text, not HTML: nothing is escaped.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)  # jinja's is for HTML
    environment.globals["raise_exception"] = raise_exception
    # These two tags, of transformers alone, mark answers to learn from.
    return environment.from_string(re.sub(r"{% (end)?generation %}", "", JINJA))


def chat_ids(tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Ids of a conversation, OpenAI's messages, up to and with the assistant's opening token.

    Raises:
        ChatFormatError: a role, a part or a field that the model was not trained on.
    """
    text = _template().render(messages=messages, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False).ids


def prompt_ids(tokenizer: Tokenizer, turns: Sequence[tuple[str, str]]) -> list[int]:
    """Ids of (role, text) turns up to and with the assistant's opening token."""
    return chat_ids(tokenizer, [{"role": role, "content": text} for role, text in turns])


def answer_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Ids of an assistant's answer with its end token."""
    return [*plain_ids(tokenizer, answer), END_ID]
