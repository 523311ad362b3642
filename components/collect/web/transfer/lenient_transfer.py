"""Second try at a response whose head libcurl refuses: read to its end and split leniently.

libcurl gives up on a header line without a colon, two targets of a redirect, a line of more than
100 KB, an empty line before the status line, a version or transfer coding that does not exist and a
body without a head. Browsers read most of these.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from urllib.parse import urlsplit

import pycurl

from components.collect.web.transfer.curl_transport import (
    ChooseLimit,
    CurlRequest,
    RawResponse,
    TransferError,
)
from components.collect.web.transfer.fetch_limits import FetchLimits
from components.collect.web.transfer.http_message import (
    MAX_HEAD_BYTES,
    HttpHead,
    decode_chunks,
    header_number,
    join_headers,
    split_http_message,
)

_PIECE_BYTES = 1 << 16
_MAX_SKIPPED = 16
"""Bytes in which a status line may begin; browsers skip some before it too."""
_HEAD_END = re.compile(rb"\n\r?\n")
_LAST_CHUNK = re.compile(rb"\n0+\r?\n\r?\n\Z")


async def transfer_leniently(
    request: CurlRequest, limits: FetchLimits, tls: ssl.SSLContext, choose_limit: ChooseLimit
) -> RawResponse:
    """Transfer one response over a connection of its own; cookies are neither sent nor read.

    Args:
        request: The request, with the checked address to connect to.
        limits: Bounds of the transfer.
        tls: Settings of an encrypted connection.
        choose_limit: Decides, by the response's head, how much of the body is read.

    Raises:
        TransferError: no response came.
    """
    assert request.address is not None
    parts = urlsplit(request.url)
    secured = tls if parts.scheme == "https" else None
    try:
        async with asyncio.timeout(limits.connect_seconds):
            reader, writer = await asyncio.open_connection(
                *request.address, ssl=secured, server_hostname=parts.hostname if secured else None
            )
    except (OSError, ssl.SSLError) as error:  # TimeoutError is an OSError
        raise TransferError(pycurl.E_COULDNT_CONNECT) from error
    try:
        writer.write(_request_bytes(request))
        message = await _read_message(reader, limits, choose_limit)
    finally:
        writer.transport.abort()
    if not message:
        raise TransferError(pycurl.E_GOT_NOTHING)
    return _split_message(message, choose_limit)


def _request_bytes(request: CurlRequest) -> bytes:
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [("Host", parts.netloc), *request.headers, ("Connection", "close")]
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


async def _read_message(
    reader: asyncio.StreamReader, limits: FetchLimits, choose_limit: ChooseLimit
) -> bytes:
    """Bytes of a message up to its end, or to the limit of what is wanted of it."""
    message = bytearray()
    wanted: int | None = None
    while not _is_whole(message):
        try:
            async with asyncio.timeout(limits.read_seconds):
                piece = await reader.read(_PIECE_BYTES)
        except OSError as error:
            if not message or isinstance(error, TimeoutError):
                raise TransferError(
                    pycurl.E_OPERATION_TIMEDOUT
                    if isinstance(error, TimeoutError)
                    else pycurl.E_RECV_ERROR
                ) from error
            break
        message += piece
        if wanted is None and (_HEAD_END.search(message) or len(message) > MAX_HEAD_BYTES):
            head, _, _ = _read_head(bytes(message))
            wanted = MAX_HEAD_BYTES + choose_limit(head)
        if not piece or (wanted is not None and len(message) > wanted):
            break
    return bytes(message)


def _is_whole(message: bytearray) -> bool:
    """True where a message is there to its end by its own framing."""
    head, body, has_head = _read_head(bytes(message)) if _HEAD_END.search(message) else _NO_HEAD
    if not has_head:
        return False
    headers = join_headers(head.lines)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return bool(_LAST_CHUNK.search(message, max(0, len(message) - 64)))
    return 0 < header_number(headers.get("content-length", "")) <= len(body)


_NO_HEAD = (HttpHead(200, []), b"", False)


def _read_head(message: bytes) -> tuple[HttpHead, bytes, bool]:
    """(head, body, True where there is a head) of a message."""
    start = max(0, message[:_MAX_SKIPPED].find(b"HTTP/"))
    try:
        head, body = split_http_message(message[start:])
    except ValueError:
        return HttpHead(200, []), message, False
    return head, body, True


def _split_message(message: bytes, choose_limit: ChooseLimit) -> RawResponse:
    head, body, has_head = _read_head(message)
    headers, is_cut = join_headers(head.lines), False
    length = header_number(headers.get("content-length", ""))
    if "chunked" in headers.get("transfer-encoding", "").lower():
        is_cut = not _LAST_CHUNK.search(body, max(0, len(body) - 64))
        body = decode_chunks(body)
    elif length:
        is_cut, body = len(body) < length, body[:length]
    limit = choose_limit(head)
    has_more = len(body) > limit
    return RawResponse(head, body[: limit + 1], has_more, is_cut and not has_more, not has_head)
