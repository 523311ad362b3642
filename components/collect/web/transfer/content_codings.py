"""Content codings of HTTP bodies (RFC 9110, section 8.4.1), undone as leniently as browsers do.

``Content-Encoding`` is a claim. A coding that nobody knows (``none``, ``UTF-8``, ``chunked``) is
passed over, one that is named and was not applied too, one that was applied and is not named is
undone by its magic number, and what follows the end of compressed data is left off. Compressed data
that ends early gives what came, with a note; data that is damaged gives an error.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import brotli
from backports import zstd

ACCEPTED_CODINGS = "gzip, deflate, br, zstd"
"""Value of ``Accept-Encoding``: the codings that are undone here."""
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_LAYERS = 4
"""Layers of compression undone, named or not: a body compressed by server and proxy has two."""
_ZSTD_WINDOW_LOG = 23
"""Largest window of zstd over HTTP is 8 MB (RFC 9659): bounds the memory of a decoder."""
_PIECE_BYTES = 1 << 16
_CHECK_ERRORS = ("incorrect data check", "incorrect length check")
"""Messages of zlib for a wrong checksum behind data that was read whole; browsers look at none."""
_TRAILER_BYTES = 8
"""A wrong checksum with more than gzip's trailer behind it is a sign of damage further ahead."""
_TEXT_BYTES = bytes(set(range(32, 256)) | set(b"\t\n\r\f\x1b"))


class ContentCodingError(ValueError):
    """Body that is damaged, or is neither what its codings say nor text."""


@dataclass(frozen=True)
class DecodedBody:
    """A body without its content codings."""

    body: bytes
    """At most ``limit`` + 1 bytes, the last of which tells that there is more."""
    is_full: bool = False
    """True where there is more than ``limit`` bytes, in this layer or in one around it."""
    note: str = ""
    """Oddity that a reader of the page has to know of; empty for none."""


@dataclass(frozen=True)
class _Layer:
    """Outcome of one coding undone."""

    body: bytes
    is_cut: bool


class _NotThisCoding(ValueError):
    """Data that does not begin as its coding does."""


def decode_content(body: bytes, content_encoding: str, limit: int) -> DecodedBody:
    """Undo the content codings of a body.

    Args:
        body: The body as it came.
        content_encoding: ``Content-Encoding``, its lines joined by commas.
        limit: Bytes to decode, at most: compressed data may expand a thousandfold.

    Raises:
        ContentCodingError: the body is damaged, or is no text and not in the coding it names.
    """
    notes: dict[str, None] = {}
    is_full = False
    layers = 0
    named = _known_codings(content_encoding)
    while layers < _MAX_LAYERS:
        coding = named.pop() if named else _coding_by_magic(body)
        if not coding:
            break
        layers += 1
        layer = _undo_layer(body, coding, limit)
        if layer is None:
            continue  # named, and not applied
        if layer.is_cut and not is_full and len(layer.body) <= limit:
            notes[f"its {coding} data ends early"] = None
        body, is_full = layer.body, is_full or len(layer.body) > limit
    return DecodedBody(body[: limit + 1], is_full or len(body) > limit, "; ".join(notes))


def _known_codings(content_encoding: str) -> list[str]:
    """Codings that can be undone, in the order in which they were applied."""
    names = (name.strip(" \t\"'").lower() for name in content_encoding.split(","))
    plain = (name.partition(";")[0].strip().removeprefix("x-") for name in names)
    return [name for name in plain if name in _DECODERS][-_MAX_LAYERS:]


def _coding_by_magic(body: bytes) -> str:
    """Coding that a body has by its first bytes, though no header names it; empty for none."""
    if body.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if body.startswith(ZSTD_MAGIC) else ""


def _undo_layer(body: bytes, coding: str, limit: int) -> _Layer | None:
    """Body without one coding; None where it does not have that coding.

    Raises:
        ContentCodingError: it is damaged, or is neither of that coding nor text.
    """
    if not body:
        return None
    actual = _coding_by_magic(body) or coding
    try:
        return _DECODERS[actual](body, limit)
    except _NotThisCoding:
        if _begins_as_text(body):
            return None
        raise ContentCodingError(f"it is no {coding}") from None


def _begins_as_text(body: bytes) -> bool:
    """True where the first bytes hold no control character: of compressed bytes a tenth are."""
    return not body[:512].translate(None, _TEXT_BYTES)


def _undo_gzip(body: bytes, limit: int) -> _Layer:
    """Undo gzip (RFC 1952), all its members; what follows them and is none is left off."""
    content, rest = bytearray(), body
    while True:
        layer, unused = _inflate(rest, 31, limit - len(content))
        content += layer.body
        if layer.is_cut or len(content) > limit or not unused.startswith(GZIP_MAGIC):
            return _Layer(bytes(content), layer.is_cut)
        rest = unused


def _undo_deflate(body: bytes, limit: int) -> _Layer:
    """Undo deflate: with its zlib wrapper (RFC 1950), or without, as many servers send it."""
    for window_bits in (15, -15):
        try:
            layer, _ = _inflate(body, window_bits, limit)
        except (_NotThisCoding, ContentCodingError):
            continue
        # Without a wrapper there is no sign of deflate but an end: text may pass for its beginning.
        if window_bits > 0 or not layer.is_cut or not _begins_as_text(body):
            return layer
    raise _NotThisCoding


def _inflate(body: bytes, window_bits: int, limit: int) -> tuple[_Layer, bytes]:
    """(decompressed data of at most ``limit`` + 1 bytes, bytes behind its end).

    Raises:
        _NotThisCoding: nothing could be decompressed.
        ContentCodingError: it is damaged further on.
    """
    unpacker = zlib.decompressobj(window_bits)
    content = bytearray()
    for at in range(0, len(body), _PIECE_BYTES):
        piece = body[at : at + _PIECE_BYTES]
        while piece and not unpacker.eof and len(content) <= limit:
            before = unpacker.copy()
            try:
                content += unpacker.decompress(piece, limit + 1 - len(content))
            except zlib.error as error:
                readable, failing_at = _inflate_up_to_error(before, piece, limit + 1 - len(content))
                content += readable
                is_at_end = len(body) - at - failing_at <= _TRAILER_BYTES
                if content and is_at_end and any(sign in str(error) for sign in _CHECK_ERRORS):
                    return _Layer(bytes(content), False), b""
                if not content:
                    raise _NotThisCoding from error
                raise ContentCodingError(f"damaged after {len(content)} bytes") from error
            piece = unpacker.unconsumed_tail
        if unpacker.eof:
            return _Layer(bytes(content), False), unpacker.unused_data + body[at + _PIECE_BYTES :]
        if len(content) > limit:
            break
    return _Layer(bytes(content), not unpacker.eof), b""


def _inflate_up_to_error(unpacker: zlib._Decompress, piece: bytes, room: int) -> tuple[bytes, int]:
    """(data up to the byte at which decompression fails, that byte's place).

    zlib itself gives no data of a piece in which it fails.
    """
    content, at = bytearray(), 0
    for at in range(len(piece)):
        try:
            content += unpacker.decompress(piece[at : at + 1], max(1, room - len(content)))
        except zlib.error:
            break
        if len(content) >= room:
            break
    return bytes(content), at


def _undo_brotli(body: bytes, limit: int) -> _Layer:
    """Undo br (RFC 7932); what follows its end is left off.

    It has no magic number, so text may pass for its beginning.
    """
    starts = list(range(0, len(body), _PIECE_BYTES))
    content, is_finished, failing_at = _unbrotli(body, starts, limit)
    if failing_at is not None:  # of a piece that holds the end and more, the library gives nothing
        singly = range(failing_at, min(failing_at + _PIECE_BYTES, len(body)))
        starts = [start for start in starts if start < failing_at] + list(singly)
        content, is_finished, failing_at = _unbrotli(body, starts, limit)
    if is_finished or len(content) > limit:
        return _Layer(content, is_cut=False)
    if not content or _begins_as_text(body):
        raise _NotThisCoding
    if failing_at is not None:
        raise ContentCodingError(f"damaged after {len(content)} bytes")
    return _Layer(content, is_cut=True)


def _unbrotli(body: bytes, starts: Sequence[int], limit: int) -> tuple[bytes, bool, int | None]:
    """(data of at most ``limit`` + 1 bytes, True at its end, start of the piece that fails).

    Args:
        body: The compressed data.
        starts: Where the pieces begin that are handed over at once.
        limit: Bytes to decode, at most.
    """
    unpacker, content = brotli.Decompressor(), bytearray()
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        piece = body[start:end]
        while not unpacker.is_finished() and len(content) <= limit:
            try:
                output = unpacker.process(piece, output_buffer_limit=limit + 1 - len(content))
            except brotli.error:
                return bytes(content), False, start
            content += output
            piece = b""
            if unpacker.can_accept_more_data() and not output:
                break
        if unpacker.is_finished() or len(content) > limit:
            break
    return bytes(content), unpacker.is_finished(), None


def _undo_zstd(body: bytes, limit: int) -> _Layer:
    """Undo zstd (RFC 8878), all its frames."""
    options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
    content, rest = bytearray(), body
    while True:
        unpacker = zstd.ZstdDecompressor(options=options)
        piece = rest
        try:
            while not unpacker.eof and len(content) <= limit:
                output = unpacker.decompress(piece, limit + 1 - len(content))
                content += output
                piece = b""
                if not output and unpacker.needs_input:
                    break
        except zstd.ZstdError as error:
            if not content:
                raise _NotThisCoding from error
            raise ContentCodingError(f"damaged after {len(content)} bytes") from error
        unused = unpacker.unused_data if unpacker.eof else b""
        if not unused.startswith(ZSTD_MAGIC) or len(content) > limit:
            return _Layer(bytes(content), not unpacker.eof)
        rest = unused


_DECODERS: dict[str, Callable[[bytes, int], _Layer]] = {
    "gzip": _undo_gzip,
    "deflate": _undo_deflate,
    "br": _undo_brotli,
    "zstd": _undo_zstd,
}
