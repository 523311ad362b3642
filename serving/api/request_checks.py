"""Checks of a request against the model and the limits of its endpoint, before anything runs."""

from __future__ import annotations

from serving.api.error_responses import ApiError, check_token
from serving.api.limits import EndpointLimits
from serving.api.request_body import array_too_long
from serving.api.request_schema import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    SamplingRequest,
)

_WHOLE_TEXT = -1
"""Window of penalties over all tokens."""


def check_generation(request: GenerationRequest, limits: EndpointLimits, vocabulary: int) -> None:
    """Refuse fields that contradict each other, the limits or the vocabulary.

    Args:
        request: of its schema.
        limits: the endpoint's.
        vocabulary: number of the model's tokens.

    Raises:
        ApiError: 400, with the field.
    """
    if request.stream_options is not None and request.stream_options.continuous_usage_stats:
        place = "stream_options.continuous_usage_stats"
        raise ApiError(
            400,
            f"Unsupported parameter: '{place}' is not served here; leave it out.",
            param=place,
            code="unsupported_parameter",
        )
    if len(request.stops) > limits.stop_strings:
        raise array_too_long("stop", f"at most {limits.stop_strings} strings")
    for at, token in enumerate(request.stop_token_ids or ()):
        check_token(token, vocabulary, f"stop_token_ids[{at}]")
    _check_bias(request, vocabulary)
    _check_penalties(request)
    if request.limit is not None and (request.min_tokens or 0) > request.limit:
        raise _contradiction("min_tokens", f"is more than the {request.limit} tokens that may come")
    if isinstance(request, ChatRequest):
        _check_chat(request)
    if isinstance(request, CompletionRequest):
        _check_completion(request)
    _check_number(request, limits)


def check_constrained(request: GenerationRequest) -> None:
    """Refuse what contradicts an answer that a grammar ends.

    Raises:
        ApiError: 400, with the field.
    """
    for field in ("ignore_eos", "min_tokens"):
        if getattr(request, field):
            raise _contradiction(
                field, "contradicts a constraint, which says where the answer ends"
            )


def _check_bias(request: SamplingRequest, vocabulary: int) -> None:
    for name in request.logit_bias or {}:
        place = f"logit_bias.{name}"
        if not (name.isascii() and name.isdigit() and len(name) < 12 and str(int(name)) == name):
            raise ApiError(
                400,
                f"Invalid key of 'logit_bias': expected a token id, but got '{name[:40]}' instead.",
                param="logit_bias",
                code="invalid_value",
            )
        check_token(int(name), vocabulary, place)


def _check_penalties(request: SamplingRequest) -> None:
    """Penalties go over the whole text: llama.cpp's window is refused where it would matter."""
    window = request.repeat_last_n
    if window not in (None, _WHOLE_TEXT) and request.penalises:
        raise _contradiction("repeat_last_n", "is -1 here: penalties go over the whole text")
    named = request.repeat_penalty
    if named in (None, 1):
        return
    if window is None:
        raise _contradiction(
            "repeat_penalty",
            "goes over the whole text here: set 'repeat_last_n' to -1, or use 'repetition_penalty'",
        )
    if request.repetition_penalty not in (None, named):
        raise _contradiction("repeat_penalty", "contradicts 'repetition_penalty'")


def _check_chat(request: ChatRequest) -> None:
    if request.top_logprobs and not request.logprobs:
        raise _contradiction("top_logprobs", "is only allowed when 'logprobs' is true")
    newer, older = request.max_completion_tokens, request.max_tokens
    if newer is not None and older not in (None, newer):
        raise _contradiction(
            "max_tokens",
            f"is {older} and contradicts 'max_completion_tokens', its newer name, which is {newer}",
        )


def _check_completion(request: CompletionRequest) -> None:
    if request.echo and request.logprobs is not None:
        raise ApiError(
            400,
            "Unsupported parameter: 'echo' is not served with 'logprobs', which are those of "
            "generated tokens alone.",
            param="echo",
            code="unsupported_parameter",
        )
    if request.best_of is not None and request.best_of < request.shown_choices:
        raise _contradiction("best_of", f"is less than the {request.shown_choices} choices of 'n'")
    if request.best_of not in (None, request.shown_choices) and request.stream:
        raise _contradiction("best_of", "cannot be streamed: the best is known at the end")


def _check_number(request: GenerationRequest, limits: EndpointLimits) -> None:
    """Refuse more answers to one request than run and wait together."""
    most = min(limits.choices, limits.slots + limits.queue)
    drawn = request.drawn_choices
    if drawn > most:
        field = "best_of" if drawn > request.shown_choices else "n"
        raise ApiError(
            400,
            f"Invalid '{field}': integer above maximum value. Expected a value <= {most}, "
            f"but got {drawn} instead.",
            param=field,
            code="integer_above_max_value",
        )
    if isinstance(request, CompletionRequest) and len(request.prompt) * drawn > most:
        raise array_too_long("prompt", _spell_prompts(most // drawn, drawn))


def _spell_prompts(prompts: int, answers: int) -> str:
    """Most prompts of one request, in words that hold for one as for many."""
    most = f"at most {prompts} {'prompt' if prompts == 1 else 'prompts'}"
    return most if answers == 1 else f"{most}, with {answers} answers to each"


def _contradiction(field: str, reason: str) -> ApiError:
    return ApiError(400, f"Invalid '{field}': it {reason}.", param=field, code="invalid_value")
