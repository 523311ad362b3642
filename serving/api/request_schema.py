"""Request schema of OpenAI's chat and completion endpoints, as far as they are served.

Fields that would change the answer and are not served are refused by name; others that a client
may send (``user``, ``metadata`` ...) are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.engine.sampling import SamplingParams

NOT_SERVED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "echo": (None, False),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""Field -> values that ask for nothing beyond what is served."""


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class StreamOptions(_Lenient):
    """Options of a stream."""

    include_usage: bool = False


class GenerationRequest(_Lenient):
    """Fields that chat and plain completions share."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unserved_fields(cls, body: Any) -> Any:
        if isinstance(body, dict):
            for name, harmless in NOT_SERVED.items():
                if name in body and body[name] not in harmless:
                    raise ValueError(f"{name} is not served here; leave it out")
        return body

    @property
    def stops(self) -> list[str]:
        """Stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        """The stream shall end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

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
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(GenerationRequest):
    """POST /completions."""

    prompt: str

    @field_validator("prompt", mode="before")
    @classmethod
    def _unwrap_single_prompt(cls, prompt: Any) -> Any:
        return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_tokens


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int

    def counted(self) -> dict[str, int]:
        """With their sum, as clients expect it."""
        return {**self.model_dump(), "total_tokens": self.prompt_tokens + self.completion_tokens}
