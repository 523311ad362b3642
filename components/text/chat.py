"""The chat template: what a conversation looks like to the model, in training and in serving.

<|user|>What does json.dumps do?<|assistant|>Serialize obj to a JSON formatted str.<|end|>
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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

JINJA = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The same template for programs that read a tokenizer_config.json."""


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in ``folder``.

    Raises:
        DataError: there is none, or its special tokens are not ours.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{folder.name}: holds no tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    for index, token in enumerate(SPECIALS):
        if tokenizer.token_to_id(token) != index:
            raise DataError(f"{path.name}: {token} must be token {index}")
    return tokenizer


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a user's text, in which the special tokens' spellings are ordinary text."""
    ids: list[int] = []
    for part, special in split_specials(text):
        # A spelled-out special token is cut in two, so that no text can forge a turn.
        pieces = (part[:2], part[2:]) if special else (part,)
        for piece in pieces:
            ids.extend(tokenizer.encode(piece, add_special_tokens=False).ids)
    return ids


def split_specials(text: str) -> list[tuple[str, bool]]:
    """``text`` cut at special tokens' spellings: (part, whether it is one)."""
    parts = [(text, False)]
    for token in SPECIALS:
        cut: list[tuple[str, bool]] = []
        for part, special in parts:
            if special or token not in part:
                cut.append((part, special))
                continue
            for index, piece in enumerate(part.split(token)):
                if index:
                    cut.append((token, True))
                if piece:
                    cut.append((piece, False))
        parts = cut
    return parts


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[tuple[str, str]]) -> list[int]:
    """Ids of (role, content) turns up to and with the assistant's opening token."""
    ids: list[int] = []
    for role, content in messages:
        ids.append(SPECIALS.index(f"<|{role}|>"))
        ids.extend(plain_ids(tokenizer, content))
        if role == "assistant":
            ids.append(END_ID)
    ids.append(SPECIALS.index(ASSISTANT))
    return ids


def answer_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Ids of an assistant's answer with its end token."""
    return [*plain_ids(tokenizer, answer), END_ID]
