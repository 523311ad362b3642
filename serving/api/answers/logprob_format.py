"""Log probabilities in the two forms of OpenAI's API reference: of chat, and of completions.

A token may be a part of a character. Its ``bytes`` are exact, and its text is then written as
OpenAI writes it: ``bytes:`` and each byte's escape. A special token is written by its spelling and
has no bytes, since it is no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.api.answers.answer_choice import ShownToken

_LEAST_LOGPROB = -9999.0
"""OpenAI's value for a token that is out of question: JSON has no infinity."""


class TokenTexts:
    """Texts and bytes of single tokens.

    Args:
        table: the bytes of each token, none for special ones.
        special: id of every special token by its spelling.
    """

    def __init__(self, table: Sequence[bytes], special: Mapping[str, int]) -> None:
        self.table = table
        self._spellings = {token: spelling for spelling, token in special.items()}
        spelled = list(table)
        for spelling, token in special.items():
            spelled[token] = spelling.encode()
        self.spelled_table = spelled
        """The bytes of each token, special ones spelt."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.table)

    def spell(self, token: int) -> str:
        """A token's text."""
        if token in self._spellings:
            return self._spellings[token]
        raw = self.table[token]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def read_bytes(self, token: int) -> list[int] | None:
        """A token's bytes; None for a special one."""
        return None if token in self._spellings else list(self.table[token])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return _join(self.table, tokens)

    def decode_spelled(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones spelt."""
        return _join(self.spelled_table, tokens)


def _join(table: Sequence[bytes], tokens: Sequence[int]) -> str:
    return b"".join(table[token] for token in tokens).decode("utf-8", "replace")


def describe_chat_logprobs(tokens: Sequence[ShownToken], texts: TokenTexts) -> dict[str, Any]:
    """``logprobs`` of a chat choice or chunk."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        value = max(_LEAST_LOGPROB, logprob)
        return {"token": texts.spell(token), "logprob": value, "bytes": texts.read_bytes(token)}

    content = [
        {
            **entry(shown.logprobs.token, shown.logprobs.logprob),
            "top_logprobs": [entry(token, logprob) for token, logprob in shown.logprobs.top],
        }
        for shown in tokens
    ]
    return {"content": content, "refusal": None}


def describe_completion_logprobs(tokens: Sequence[ShownToken], texts: TokenTexts) -> dict[str, Any]:
    """``logprobs`` of a plain completion's choice or chunk.

    The likeliest tokens include the drawn one, so there may be one more than was asked for.
    """

    def likeliest(shown: ShownToken) -> dict[str, float]:
        drawn = (shown.logprobs.token, shown.logprobs.logprob)
        ranked = [*shown.logprobs.top, drawn]
        return {texts.spell(token): max(_LEAST_LOGPROB, logprob) for token, logprob in ranked}

    return {
        "tokens": [texts.spell(shown.logprobs.token) for shown in tokens],
        "token_logprobs": [max(_LEAST_LOGPROB, shown.logprobs.logprob) for shown in tokens],
        "top_logprobs": [likeliest(shown) for shown in tokens],
        "text_offset": [shown.start for shown in tokens],
    }
