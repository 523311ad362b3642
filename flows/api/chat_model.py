"""Model in memory: tokenizer and torch module, for questions, continuations and own experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.text.chat.ask_model import decode_answer
from components.text.chat.chat_tokenizer import TEMPERATURE, ChatTokenizer, Message
from flows.api.find_model import Reference, find_model

if TYPE_CHECKING:
    from models.decoder import Decoder
    from models.generate import SampledAnswer
    from models.shape import DecoderShape

Messages = str | Sequence[Message]
DEFAULT_TOKENS = 256
"""Most tokens of an answer where a caller names none, as far as the context goes."""


@dataclass(frozen=True)
class ChatModel:
    """Loaded model; all calls run in the caller's process."""

    tokenizer: ChatTokenizer
    """Text and conversations to token ids, and back."""
    module: Decoder
    """The torch module, in evaluation mode and float32."""
    folder: Path
    """Folder that it was read from."""
    version: str | None
    """Registered version: ``tiny/3``; None for a checkpoint or a folder."""
    aliases: tuple[str, ...]
    """Aliases of the version when it was loaded: ``champion``."""
    digest: str | None
    """Digest of its bundle or checkpoint; None for a folder outside of the store."""
    _settings: Settings

    @property
    def shape(self) -> DecoderShape:
        """Width, layers, heads, vocabulary, context and others."""
        return self.module.shape

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer together."""
        return self.shape.context

    @cached_property
    def lineage(self) -> list[ArtifactNode]:
        """All that it was made of, from the pages to the model; empty outside of the store."""
        if self.digest is None:
            return []
        return ArtifactGraph.read(self._settings.store).provenance_chain([self.digest])

    def chat(
        self,
        messages: Messages,
        *,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Answer a question, or the last turn of a conversation.

        Args:
            messages: a question, or messages in OpenAI's form: ``role`` and ``content``.
            temperature: 0 takes the likeliest token each time.
            seed: seed of the random numbers; None draws other ones each time.
            max_tokens: most tokens of the answer; None is 256, or what the context leaves.

        Returns:
            The answer's text.

        Raises:
            ConfigError: the prompt leaves no room in the context, or an argument is out of bounds.
            DataError: the chat template refuses a message.

        Example:
            >>> model.chat("What does json.dumps do?", temperature=0)  # doctest: +SKIP
        """
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        prompt = self.tokenizer.encode_prompt(_check_messages(turns))
        answer = self._sample(prompt, self.tokenizer.stop_ids, temperature, seed, max_tokens)
        return decode_answer(self.tokenizer, answer.tokens, finished=answer.stopped).text

    def generate(
        self,
        text: str = "",
        *,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Continue a text, as a page of the corpus goes on.

        Args:
            text: beginning of the page; empty begins one.
            temperature: 0 takes the likeliest token each time.
            seed: seed of the random numbers; None draws other ones each time.
            max_tokens: most tokens of the continuation; None is 256, or what the context leaves.

        Returns:
            The continuation, without ``text``.

        Raises:
            ConfigError: the text leaves no room in the context, or an argument is out of bounds.

        Example:
            >>> model.generate("json.dumps(obj) ", seed=1)  # doctest: +SKIP
        """
        if not isinstance(text, str):
            raise ConfigError(f"text: given {text!r}: must be a text")
        _check_signs("text", text)
        prompt = [self.tokenizer.separator_id, *self.tokenizer.encode_text(text)]
        stops = (self.tokenizer.separator_id, *self.tokenizer.stop_ids)
        sample = self._sample(prompt, stops, temperature, seed, max_tokens)
        return self.tokenizer.decode(sample.tokens)

    def _sample(
        self,
        prompt: Sequence[int],
        stop_ids: Sequence[int],
        temperature: float,
        seed: int | None,
        max_tokens: int | None,
    ) -> SampledAnswer:
        import torch

        from models.generate import generate_answers

        _check_sampling(temperature, seed, max_tokens)
        left = self.context - len(prompt)
        if left < 1:
            raise ConfigError(
                f"the prompt has {len(prompt)} tokens, and the model's context {self.context}, "
                "which the answer shares: shorten it"
            )
        if max_tokens is not None and not 1 <= max_tokens <= left:
            raise ConfigError(
                f"max_tokens: given {max_tokens}: must be from 1 to {left}, which the prompt "
                f"leaves of the context of {self.context}"
            )
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(int(seed))
        (answer,) = generate_answers(
            self.module,
            [prompt],
            max_new=min(DEFAULT_TOKENS, left) if max_tokens is None else int(max_tokens),
            stop_ids=stop_ids,
            temperature=float(temperature),
            generator=generator,
        )
        return answer

    def __repr__(self) -> str:
        named = self.version or (self.digest or str(self.folder))[:24]
        return f"<model {named}: {self.shape.parameters:,} parameters, context {self.context}>"


def _check_sampling(temperature: object, seed: object, max_tokens: object) -> None:
    """Refuse values of another type, and those out of torch's bounds."""
    is_number = not isinstance(temperature, bool) and isinstance(temperature, Real)
    if not is_number or not 0 <= temperature <= 2:  # type: ignore[operator]
        raise ConfigError(f"temperature: given {temperature!r}: must be a number from 0 to 2")
    for name, value in (("seed", seed), ("max_tokens", max_tokens)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ConfigError(f"{name}: given {value!r}: must be a whole number, or None")
    if isinstance(seed, Integral) and not -(2**63) <= int(seed) < 2**64:
        raise ConfigError(f"seed: given {seed}: must be from -2^63 to 2^64 - 1")


def _check_signs(name: str, value: object) -> None:
    """Refuse what no JSON in UTF-8 could hold, which neither template nor tokenizer reads."""
    try:
        json.dumps(value, ensure_ascii=False, default=_plain_mapping).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}: holds half of a surrogate pair, which is no text") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: must be what JSON can hold: {error}") from error


def _plain_mapping(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is none")


def _check_messages(messages: Any) -> Sequence[Message]:
    if isinstance(messages, Mapping) or not isinstance(messages, Sequence) or not messages:
        raise ConfigError(
            'messages: give a question, or a list such as [{"role": "user", "content": "…"}]'
        )
    for at, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ConfigError(f"messages.{at}: must be a mapping with role and content")
    _check_signs("messages", list(messages))
    return messages


def load_chat_model(
    settings: Settings, reference: Reference, tokenizer: Reference | None, device: str
) -> ChatModel:
    """Load a model into this process.

    Args:
        settings: workspace of registry and store.
        reference: NAME@ALIAS, NAME/VERSION, NAME, a digest, an artifact or a folder.
        tokenizer: folder or artifact of the tokenizer of a checkpoint whose own is not at hand.
        device: torch's name of the device.

    Raises:
        ConfigError: there is no such model, or no such device.
        DataError: a file of it is damaged.
    """
    if not isinstance(device, str):
        raise ConfigError(f"device: given {device!r}: give torch's name of it, such as cuda")
    files = find_model(settings, reference, tokenizer)
    words, module = files.read_tokenizer(), files.read_module()
    if words.vocabulary != module.shape.vocabulary:
        raise ConfigError(
            f"{files.folder}: the tokenizer has {words.vocabulary} tokens, "
            f"the model {module.shape.vocabulary}"
        )
    try:
        module = module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's, of a build without the device
        raise ConfigError(f"device: given {device!r}: {str(error).splitlines()[0]}") from error
    version = files.version
    return ChatModel(
        tokenizer=words,
        module=module,
        folder=files.folder,
        version=f"{version.model}/{version.version}" if version else None,
        aliases=version.aliases if version else (),
        digest=files.digest,
        _settings=settings,
    )
