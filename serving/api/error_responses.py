"""Error responses in the shape that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
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
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }

    def response(self) -> JSONResponse:
        """The HTTP response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def queue_full_error() -> ApiError:
    """429: as many requests wait as may."""
    return ApiError(
        429,
        "The server has as many requests waiting as it takes; try again shortly.",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        retry_after=1,
    )


def model_failed_error() -> ApiError:
    """500: the engine gave up; details are in the log, not in the answer."""
    return ApiError(500, "The model failed to answer.", kind="server_error", code="server_error")


def prompt_too_long(context: int, prompt_tokens: int) -> ApiError:
    """400: the prompt leaves no room for an answer."""
    return ApiError(
        400,
        f"This model's maximum context length is {context} tokens. However, your request "
        f"has {prompt_tokens} tokens and needs room for an answer.",
        code="context_length_exceeded",
        param="messages",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of ``app`` OpenAI's shape."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(ChatFormatError)
    async def not_in_template(_: Request, error: ChatFormatError) -> JSONResponse:
        place = str(error).partition(":")[0]
        return ApiError(400, str(error), param=place, code="invalid_value").response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return ApiError(error.status_code, str(error.detail)).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return model_failed_error().response()


def _invalid(error: RequestValidationError) -> ApiError:
    """The first validation error, named as the client wrote the field."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    param = ".".join(place) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param or 'body'}: {message}", param=param, code="invalid_value")
