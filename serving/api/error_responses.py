"""Error responses in the shape that OpenAI's clients understand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import JSONResponse

from components.core.log import get_logger
from components.text.chat.template_sandbox import ChatFormatError

log = get_logger(__name__)


class ApiError(Exception):
    """An error of the API with its HTTP status and body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


def queue_full_error() -> ApiError:
    """429: as many requests wait as may."""
    return ApiError(
        429,
        "The server has as many requests waiting as it takes; try again shortly.",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        headers={"Retry-After": "1"},
    )


def model_failed_error() -> ApiError:
    """500: the engine gave up; details are in the log, not in the answer."""
    return ApiError(500, "The model failed to answer.", kind="server_error", code="server_error")


def prompt_too_long(context: int, tokens: str, field: str, *, answers: bool = True) -> ApiError:
    """400: the prompt leaves no room for an answer.

    Args:
        context: tokens that prompt and answer may have together.
        tokens: the prompt's number, in words where it is not known exactly.
        field: the request's field that holds it.
        answers: an answer follows.
    """
    room = " and needs room for an answer" if answers else ""
    return ApiError(
        400,
        f"This model's maximum context length is {context} tokens. However, your request "
        f"has {tokens} tokens{room}.",
        code="context_length_exceeded",
        param=field,
    )


def text_too_long(field: str, most: int, size: int) -> ApiError:
    """400: a text of more bytes than are read.

    Args:
        field: the request's field that holds it.
        most: bytes that are read.
        size: bytes that it has.
    """
    return ApiError(
        400,
        f"Invalid '{field}': text too long. Expected at most {most} bytes, but got {size} instead.",
        code="string_above_max_length",
        param=field,
    )


def check_token(token: int, vocabulary: int, place: str) -> None:
    """Refuse a token id that the model does not have.

    Args:
        token: the id.
        vocabulary: number of the model's tokens.
        place: of the id in the request.

    Raises:
        ApiError: 400.
    """
    if not 0 <= token < vocabulary:
        raise ApiError(
            400,
            f"Invalid '{place}': the model's token ids are 0 to {vocabulary - 1}, "
            f"but got {token} instead.",
            param=place,
            code="invalid_value",
        )


def loading_error() -> ApiError:
    """503: the model is not there yet."""
    return ApiError(
        503,
        "The model is being loaded; try again shortly.",
        code="loading",
        kind="server_error",
        headers={"Retry-After": "1"},
    )


def stopping_error() -> ApiError:
    """503: the server ends; another one, or this one started again, will answer."""
    return ApiError(
        503,
        "The server is being stopped; try again shortly.",
        code="server_stopping",
        kind="server_error",
        headers={"Retry-After": "1", "Connection": "close"},
    )


def unknown_address(method: str, path: str) -> ApiError:
    """404: no route."""
    return ApiError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def method_not_allowed(method: str, path: str, allowed: Iterable[str]) -> ApiError:
    """405: a route of other methods.

    Args:
        method: the request's.
        path: the request's.
        allowed: methods of the route.
    """
    return ApiError(
        405,
        f"Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different "
        "HTTP method?)",
        code="method_not_supported",
        headers={"Allow": ", ".join(sorted(allowed))},
    )


def describe_failure(error: Exception) -> ApiError:
    """The answer to a request that failed; one that was not refused is logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ChatFormatError):
        place, colon, reason = str(error).partition(":")
        place = re.sub(r"\.(\d+)", r"[\1]", place)
        return ApiError(400, f"{place}{colon}{reason}", param=place, code="invalid_value")
    log.error("a request failed", exc_info=error)
    return model_failed_error()
