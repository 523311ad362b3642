"""Request guard in front of every route: API key, loopback callers only without one, body limits.

With a key, ``Authorization: Bearer`` must carry it. Without one, only this machine is answered,
under a loopback name and to pages of its own, so that no web page can reach the endpoint through a
browser.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from components.core.errors import ConfigError
from serving.api.api_router import refuse_socket
from serving.api.error_responses import ApiError
from serving.api.limits import EndpointLimits

_CLOSE = {"Connection": "close"}
"""Of a refusal that leaves a part of the request unread."""
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]", ""}
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}
_DRAINED_BYTES = 16 << 20
"""Read on and discarded, so that a client which sent too much still reads the refusal."""


def check_host(host: str, api_key: str | None) -> None:
    """Refuse to listen beyond this machine without a key.

    Raises:
        ConfigError: names the remedy.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"--host {host}: not an address; give 127.0.0.1 or 0.0.0.0") from None
    if not loopback and not api_key:
        raise ConfigError(
            f"--host {host}: others could reach the model; set MODELMILL_API_KEY, "
            "or listen on 127.0.0.1"
        )


def check_key(headers: Headers, api_key: str) -> None:
    """Compare the bearer token in constant time.

    Raises:
        ApiError: 401.
    """
    # Headers are bytes, which Starlette reads as Latin-1: curl sends UTF-8, requests Latin-1.
    scheme, _, token = headers.get("authorization", "").partition(" ")
    presented = hashlib.sha256(token.strip(" \t").encode("latin-1")).digest()
    matches = [
        hmac.compare_digest(presented, hashlib.sha256(form).digest())
        for form in _key_forms(api_key)
    ]
    if not any(matches) or scheme.lower() != "bearer":
        raise ApiError(
            401,
            "Incorrect API key provided.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _key_forms(api_key: str) -> list[bytes]:
    """A key as clients write it into a header."""
    forms = [api_key.encode()]
    try:
        forms.append(api_key.encode("latin-1"))
    except UnicodeEncodeError:
        return forms
    return forms


@lru_cache(256)
def _is_loopback(address: str) -> bool:
    """An address is of this machine; parsing it anew took a tenth of a refused request's time."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def check_local(scope: Scope, headers: Headers) -> None:
    """Without a key, require that caller and called host name are of this machine.

    Raises:
        ApiError: 403.
    """
    client = scope.get("client")
    name = headers.get("host", "")
    if not name.endswith("]"):
        name = name.rpartition(":")[0] or name
    loopback = client is None or _is_loopback(client[0])
    if not loopback or name.lower() not in _LOOPBACK_NAMES:
        raise ApiError(
            403,
            "Without MODELMILL_API_KEY this endpoint answers its own machine alone.",
            code="forbidden",
        )


def check_origin(headers: Headers) -> None:
    """Refuse a page of another site: without a key, its browser is a caller of this machine.

    Browsers ask no site before they send a "simple request" to it (a POST of text/plain) or open a
    WebSocket. They name the page's origin or, where they leave it out, its relation to the site.

    Raises:
        ApiError: 403.
    """
    origins = headers.getlist("origin")
    if not origins and headers.get("sec-fetch-site", "").lower() == "cross-site":
        origins = ["null"]
    for origin in origins:
        try:
            name = urlsplit(origin).hostname or "null"
        except ValueError:
            name = "null"
        if name not in _LOOPBACK_HOSTS:
            raise ApiError(
                403,
                "Without MODELMILL_API_KEY no page of another site is answered.",
                code="forbidden",
            )


def check_caller(scope: Scope, headers: Headers, api_key: str | None) -> None:
    """Require the key, or without one a caller of this machine.

    Args:
        scope: the request's, for the caller's address.
        headers: the request's.
        api_key: the endpoint's, if it has one.

    Raises:
        ApiError: 401 or 403.
    """
    if api_key:
        check_key(headers, api_key)
    else:
        check_local(scope, headers)
        check_origin(headers)


def check_framing(headers: Headers) -> None:
    """Refuse a request that frames its body twice: two readers could see two requests in it.

    RFC 9112, 6.1 and 6.3: to refuse it or to close after it are the two ways that are safe.

    Raises:
        ApiError: 400; the connection ends.
    """
    if "transfer-encoding" in headers and "content-length" in headers:
        raise ApiError(
            400,
            "A request has Content-Length or Transfer-Encoding, not both.",
            code="invalid_request",
            headers=_CLOSE,
        )


def check_coding(headers: Headers) -> None:
    """Refuse a compressed body: a few bytes of it could be as large as the memory.

    Raises:
        ApiError: 415, with the coding that is read (RFC 9110, 15.5.16).
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(
            415,
            f"A body in the coding '{coding[:40]}' is not read; send it without Content-Encoding.",
            code="unsupported_content_encoding",
            headers={"Accept-Encoding": "identity"},
        )


class ClientGone(Exception):
    """The client ended within its request: half a body is no request."""


class RequestGuard:
    """ASGI middleware that checks the caller, then reads the whole body within bounds."""

    def __init__(self, app: ASGIApp, limits: EndpointLimits, api_key: str | None) -> None:
        self.app, self.limits, self.api_key = app, limits, api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            await self._guard_socket(scope, receive, send, headers)
            return
        try:
            check_framing(headers)
            check_caller(scope, headers, self.api_key)
            body = await self._read(headers, receive)
            check_coding(headers)
        except ClientGone:
            return
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    async def _guard_socket(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers
    ) -> None:
        """Check a WebSocket's caller; browsers ask no other site before they connect to it.

        Args:
            scope: the handshake's.
            receive: of the connection.
            send: of the connection.
            headers: the handshake's.
        """
        try:
            check_caller(scope, headers, self.api_key)
        except ApiError as refusal:
            await refuse_socket(WebSocket(scope, receive, send), refusal)
            return
        await self.app(scope, receive, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            ApiError: 413 or 408; the connection ends.
            ClientGone: it ended within its request.
        """
        max_bytes = self.limits.body_bytes
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= max_bytes:
                        chunks.append(chunk)
                    if not message.get("more_body", False) or size > _DRAINED_BYTES + max_bytes:
                        break
        except TimeoutError:
            raise ApiError(
                408, "The request took too long to arrive.", code="timeout", headers=_CLOSE
            ) from None
        if size > max_bytes:
            raise ApiError(
                413,
                f"The request is larger than {max_bytes} bytes.",
                code="request_too_large",
                headers=_CLOSE,
            )
        return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives the body once more, then whatever the client does next."""
    replayed = False

    async def again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
