"""Bytes that each token of a byte-level vocabulary stands for, by which answers are streamed."""

from __future__ import annotations

from components.core.errors import ConfigError
from components.text.chat.chat_tokenizer import ChatTokenizer


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


def token_bytes(tokenizer: ChatTokenizer) -> list[bytes]:
    """The bytes each token stands for; none for the special ones.

    Raises:
        ConfigError: the vocabulary is none of bytes, so that a token alone is no text.
    """
    alphabet = _byte_alphabet()
    table = [b""] * tokenizer.vocabulary
    added = tokenizer.backend.get_added_tokens_decoder()
    for token, index in tokenizer.backend.get_vocab().items():
        if index in added:
            table[index] = b"" if added[index].special else token.encode()
        elif alphabet.keys() >= set(token):
            table[index] = bytes(alphabet[character] for character in token)
        else:
            raise ConfigError(
                f"the tokenizer's token {token!r} is no byte-level one: only models with a "
                "byte-level BPE (Qwen, Llama 3, GPT-2) are served, none with SentencePiece's pieces"
            )
    return table
