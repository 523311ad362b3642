"""Request schema of OpenAI's chat and completion endpoints, as far as they are served.

The fields here are served; ``request_fields`` says which others are refused and which ignored.
Sampling beyond OpenAI's fields is named as vLLM names it, and as llama.cpp where it has a name of
its own.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from serving.api.message_fields import read_refusals
from serving.api.prompt_forms import PROMPT_SCHEMA, Prompt, read_prompts
from serving.constrain.constraint_fields import ConstraintFields
from serving.constrain.tool_fields import ToolFields
from serving.engine.generation import AnswerOptions
from serving.engine.sampling import SamplingParams

_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, _TEXTS, {"type": "null"}]}
_MOST_STOP_TOKENS = 64
"""Fewer than a vocabulary of bytes has, so that ``min_tokens`` always leaves tokens to draw."""
_GREEDY_TEMPERATURE = 1e-5
"""Below it all weight is on the likeliest token, and a division by it leaves the numbers' range
(vLLM's bound)."""
_MOST_LOGPROBS = 20
"""OpenAI's bound for chat."""

TokenId = Annotated[int, Field(ge=0)]
Penalty = Annotated[float, Field(allow_inf_nan=True, ge=-2, le=2)]
Repetition = Annotated[float, Field(allow_inf_nan=True, ge=0.01, le=100)]
"""Wider than anybody asks for, and within what logits can be multiplied by. ``allow_inf_nan``:
JSON's 1e999 is infinite, and the refusal by a bound names what is allowed."""


class StrictModel(BaseModel):
    """JSON's own types alone: ``"3"`` is no number and 1 no flag."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(StrictModel):
    """Options of a stream."""

    include_usage: bool | None = False
    include_obfuscation: bool | None = None
    """Padding against listeners, which changes nothing of the answer: ignored."""
    continuous_usage_stats: bool | None = None
    """vLLM's usage in every chunk: not served, so true is refused."""


class SamplingRequest(StrictModel):
    """Fields that say which token is drawn, and at which tokens an answer ends."""

    temperature: Annotated[float, Field(allow_inf_nan=True, ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(allow_inf_nan=True, gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """0 and -1 set no limit."""
    min_p: Annotated[float, Field(allow_inf_nan=True, ge=0, le=1)] | None = None
    repetition_penalty: Repetition | None = None
    repeat_penalty: Repetition | None = None
    """llama.cpp's name; over the whole text alone, so with ``repeat_last_n`` -1."""
    repeat_last_n: Annotated[int, Field(ge=-1)] | None = None
    """Window of llama.cpp's penalties; -1 is the whole text, the one that is served."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(allow_inf_nan=True, ge=-100, le=100)]] | None = (
        None
    )
    """Token id, as text -> added to its logit."""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=_MOST_STOP_TOKENS)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    """No end token is drawn and no stop string looked for before."""
    ignore_eos: bool | None = None
    """The model's end tokens end nothing; the answer is as long as it may be."""

    @property
    def penalises(self) -> bool:
        """Some penalty depends on the tokens before."""
        repeats = (self.repeat_penalty, self.repetition_penalty)
        counted = (self.presence_penalty, self.frequency_penalty)
        return any(value not in (None, 1) for value in repeats) or any(counted)

    @property
    def reported_logprobs(self) -> int | None:
        """Likeliest tokens reported with each one; None for no log probabilities."""
        return None

    @property
    def drawn_logprobs(self) -> int | None:
        """Likeliest tokens that the engine gives with each one; None for no log probabilities."""
        return self.reported_logprobs

    def sampling_params(self, temperature: float, choice: int = 0) -> SamplingParams:
        """Sampling parameters of one choice; the first one's are those of a single answer.

        Args:
            temperature: used where the request names none.
            choice: place among the choices, which draw differently.
        """
        chosen = temperature if self.temperature is None else self.temperature
        return SamplingParams(
            temperature=0.0 if chosen < _GREEDY_TEMPERATURE else chosen,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or self.repeat_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            seed=None if self.seed is None else derive_seed(self.seed % (1 << 64), choice),
            logprobs=self.drawn_logprobs,
        )


class GenerationRequest(SamplingRequest, ConstraintFields):
    """Fields that chat and plain completions share."""

    model: str
    """The name that ``/models`` lists."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    """Choices; OpenAI's bound, an endpoint may have a lower one."""
    stop: Annotated[list[str] | None, WithJsonSchema(_TEXT_OR_TEXTS)] = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    """False: special tokens are written out; null and true leave them out."""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    """The application's own user: clients take turns."""
    safety_identifier: str | None = None
    """OpenAI's newer name of it."""

    @field_validator("stop", mode="before")
    @classmethod
    def _wrap_single_stop(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that sets it."""
        return "max_tokens"

    @property
    def stops(self) -> list[str]:
        """Stop strings."""
        return self.stop or []

    @property
    def shown_choices(self) -> int:
        """Choices in the answer to one prompt."""
        return self.n or 1

    @property
    def drawn_choices(self) -> int:
        """Choices that are generated for one prompt."""
        return self.shown_choices

    @property
    def wants_usage(self) -> bool:
        """The stream shall end with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def answer_options(self, address: str) -> AnswerOptions:
        """Rules of one choice beside its sampling.

        Args:
            address: the caller's, who is the client where the request names none.
        """
        return AnswerOptions(
            stop_tokens=frozenset(self.stop_token_ids or ()),
            ignores_end=bool(self.ignore_eos),
            min_tokens=self.min_tokens or 0,
            client=self.safety_identifier or self.user or address,
        )


class ChatRequest(GenerationRequest, ToolFields):
    """POST /chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    """The chat template says which roles, parts and fields they may have."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None

    @field_validator("messages")
    @classmethod
    def _read_refusals(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return read_refusals(messages)

    @property
    def asks_nothing(self) -> bool:
        """The last turn is the user's and has no text: there is no question to answer."""
        last = self.messages[-1]
        return last.get("role") == "user" and not _has_text(last.get("content"))

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that sets it."""
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"

    @property
    def reported_logprobs(self) -> int | None:
        """Likeliest tokens reported with each one; None for no log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


def _has_text(content: Any) -> bool:
    if isinstance(content, list):
        return any(_has_text(part.get("text")) for part in content if isinstance(part, dict))
    return isinstance(content, str) and not content.isspace() and content != ""


class CompletionRequest(GenerationRequest):
    """POST /completions."""

    prompt: Annotated[list[Any], WithJsonSchema(PROMPT_SCHEMA)]
    logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    """The answer begins with its prompt."""
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    """Choices that are generated; the likeliest by the mean of a token are answered."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _read_prompts(cls, prompt: Any) -> list[Prompt]:
        return read_prompts(prompt, "prompt")

    @property
    def drawn_choices(self) -> int:
        """Choices that are generated for one prompt."""
        return self.best_of or self.shown_choices

    @property
    def reported_logprobs(self) -> int | None:
        """Likeliest tokens reported with each one; None for no log probabilities."""
        return self.logprobs

    @property
    def drawn_logprobs(self) -> int | None:
        """Likeliest tokens that the engine gives with each one: choosing the best needs some."""
        chooses = self.drawn_choices > self.shown_choices
        return 0 if self.logprobs is None and chooses else self.logprobs


def derive_seed(seed: int, choice: int) -> int:
    """The seed of a choice: the request's own for the first, numpy's spawned ones for others."""
    if choice == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(choice,)).generate_state(1, np.uint64)[0])


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Tokens of the prompts that were not read again, since another began like it."""

    def counted(self) -> dict[str, Any]:
        """In OpenAI's form, with their sum, as clients expect it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
