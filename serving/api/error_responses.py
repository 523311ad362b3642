"""Errors in the shape that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from components.core.log import get_logger
from components.text.chat.chat_template import ChatFormatError

log = get_logger(__name__)


class Refusal(Exception):
    """A request that is not answered; ``status`` and the body say why."""

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
        """What the client gets."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def queue_full() -> Refusal:
    """As many requests wait as may."""
    return Refusal(
        429,
        "The server has as many requests waiting as it takes; try again shortly.",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        retry_after=1,
    )


def model_failed() -> Refusal:
    """The engine gave up; details are in the log, not in the answer."""
    return Refusal(500, "The model failed to answer.", kind="server_error", code="server_error")


def too_long(context: int, given: int) -> Refusal:
    """The prompt leaves no room for an answer."""
    return Refusal(
        400,
        f"This model's maximum context length is {context} tokens. However, your request "
        f"has {given} tokens and needs room for an answer.",
        code="context_length_exceeded",
        param="messages",
    )


def install(app: FastAPI) -> None:
    """Give every error of ``app`` this shape."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return error.response()

    @app.exception_handler(ChatFormatError)
    async def not_in_template(_: Request, error: ChatFormatError) -> JSONResponse:
        place = str(error).partition(":")[0]
        return Refusal(400, str(error), param=place, code="invalid_value").response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return Refusal(error.status_code, str(error.detail)).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return model_failed().response()


def _invalid(error: RequestValidationError) -> Refusal:
    """The first thing that is wrong, named as the client wrote it."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return Refusal(400, "The body is not valid JSON.", code="invalid_json")
    param = ".".join(place) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return Refusal(400, f"{param or 'body'}: {message}", param=param, code="invalid_value")
