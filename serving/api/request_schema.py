"""Request schema of OpenAI's chat and completion endpoints, as far as they are served.

The fields here are served; ``request_fields`` says which others are refused and which ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from serving.engine.sampling import SamplingParams

_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, _TEXTS, {"type": "null"}]}
_ONE_PROMPT = {"anyOf": [{"type": "string"}, {**_TEXTS, "minItems": 1, "maxItems": 1}]}


class _StrictModel(BaseModel):
    """JSON's own types alone: ``"3"`` is no number and 1 no flag."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(_StrictModel):
    """Options of a stream."""

    include_usage: bool | None = False
    include_obfuscation: bool | None = None
    """Padding against listeners, which changes nothing of the answer: ignored."""
    continuous_usage_stats: Literal[False] | None = None
    """vLLM's usage in every chunk is not served."""


class GenerationRequest(_StrictModel):
    """Fields that chat and plain completions share."""

    model: str
    """The name that ``/models`` lists."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    stop: Annotated[list[str] | None, WithJsonSchema(_TEXT_OR_TEXTS)] = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _wrap_single_stop(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_tokens

    @property
    def stops(self) -> list[str]:
        """Stop strings."""
        return self.stop or []

    @property
    def wants_usage(self) -> bool:
        """The stream shall end with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling_params(self, temperature: float) -> SamplingParams:
        """Sampling parameters; ``temperature`` is used where the request names none."""
        return SamplingParams(
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed % (1 << 64),
        )


class ChatRequest(GenerationRequest):
    """POST /chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    """The chat template says which roles, parts and fields they may have."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def asks_nothing(self) -> bool:
        """The last turn is the user's and has no text: there is no question to answer."""
        last = self.messages[-1]
        return last.get("role") == "user" and not _has_text(last.get("content"))

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens


def _has_text(content: Any) -> bool:
    if isinstance(content, list):
        return any(_has_text(part.get("text")) for part in content if isinstance(part, dict))
    return isinstance(content, str) and not content.isspace() and content != ""


class CompletionRequest(GenerationRequest):
    """POST /completions."""

    prompt: Annotated[str, WithJsonSchema(_ONE_PROMPT)]

    @field_validator("prompt", mode="before")
    @classmethod
    def _unwrap_single_prompt(cls, prompt: Any) -> Any:
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int

    def counted(self) -> dict[str, int]:
        """With their sum, as clients expect it."""
        return {**self.model_dump(), "total_tokens": self.prompt_tokens + self.completion_tokens}
