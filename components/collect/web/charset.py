"""Charset of a page by the Encoding Standard: byte order mark, declarations, UTF-8, detection."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache

import webencodings
from chardetng_py import EncodingDetector
from w3lib.encoding import html_body_declared_encoding, read_bom, to_unicode

from components.collect.web.media_types import MARKDOWN, PLAIN, find_wide_codec, media_type_of

_HEADER_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_SEVEN_BITS = frozenset({"iso2022_jp", "iso2022_kr", "hz"})
_SHIFTS = (b"\x1b$", b"~{")
"""Escapes behind which characters beyond ASCII stand in these charsets."""
_MULTI_BYTE = frozenset({"gb18030", "big5hkscs", "cp932", "euc_jp", "cp949"})
_PYTHON_CODECS = {"gbk": "gb18030", "x-user-defined": "cp1252"}
"""The standard decodes GBK by the larger charset that grew out of it."""
_UNSUPPORTED_CODECS = {"iso-2022-kr": "iso2022_kr", "hz-gb-2312": "hz"}
"""Browsers refuse them, as scripts can hide in them; a reader of text need not."""
_FEW_ACCENTS = 0.01
"""Share of bytes beyond ASCII among letters below which a text is taken for Windows-1252, English
with a name or a quotation mark in it: a detector has too little to go by."""
_OLD_LATIN_CODECS = ("mac_roman", "cp850")
"""Charsets of the Mac OS before X and of DOS, in which tables are still exported."""
_INSIDE_WORD = re.compile(rb"(?<=[a-z])[\x80-\xff](?=[a-z])")
_LEAST_INSIDE = 4
_MANY_MISFITS, _FEW_MISFITS = 0.25, 0.05
_JOINING = "\u2019\u00ad\u00b7\u2011"
"""Signs that stand inside of words: apostrophe, soft hyphen, Catalan's dot, joining hyphen."""
_MAX_DETECTED = 200_000
_MAX_DAMAGE = 0.2
"""Share of errors up to which a declaration is believed, and the errors are damage."""
_NO_TEXT = re.compile(
    rb"<(?:script|style)\b.*?(?:</(?:script|style)|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL
)
_LETTER = re.compile(rb"[A-Za-z\x80-\xff]")
_PLAIN_TYPES = frozenset({PLAIN, MARKDOWN, "text/x-markdown"})
_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
"""Ends of lines of old systems and word processors (Unicode, UAX 14, classes BK and NL)."""
_WIDE_SAMPLE = 4096


@dataclass(frozen=True)
class DecodedPage:
    """Text of a page, and the codec (Python's name) that its queries are sent in."""

    text: str
    codec: str


def decode_page(body: bytes, content_type: str = "") -> str:
    """Decode a page's or a site file's bytes; those that fit no charset become U+FFFD.

    Ends of lines are line feeds (spaces in HTML, where they are no more than that), and byte order
    marks inside are removed.
    """
    return decode_with_codec(body, content_type).text


def decode_with_codec(body: bytes, content_type: str = "") -> DecodedPage:
    """Decode a page's bytes as ``decode_page`` does, and tell by which codec."""
    is_plain = media_type_of(content_type) in _PLAIN_TYPES
    codec, mark = read_bom(body)
    if codec is not None and mark is not None:
        text = body[len(mark) :].decode(codec, "replace")
    else:
        codec = _choose_codec(body, content_type, is_plain=is_plain)
        errors = "vendor_kanji" if codec in ("euc_jp", "iso2022_jp") else "replace"
        text = to_unicode(body, codec) if errors == "replace" else body.decode(codec, errors)
    text = _normalise_breaks(text, is_html=not is_plain and text.lstrip().startswith("<"))
    return DecodedPage(text, "utf-8" if codec.startswith(("utf", *_SEVEN_BITS)) else codec)


def _normalise_breaks(text: str, *, is_html: bool) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    for line_end in _LINE_ENDS:
        text = text.replace(line_end, " " if is_html else "\n")
    return text


def detect_codec(text: bytes) -> str:
    """Codec (Python's name) of a plain text without a byte order mark that declares none."""
    return _choose_codec(text, PLAIN, is_plain=True)


def _choose_codec(body: bytes, content_type: str, *, is_plain: bool) -> str:
    """Codec of a body without a byte order mark.

    Declarations come first where they alone can tell (7-bit charsets, UTF-16). Then a body whose
    bytes are UTF-8 is UTF-8, whatever it declares: that happens by chance in hardly any text.
    """
    declared = _declared_codecs(body, content_type, is_plain=is_plain)
    wide = find_wide_codec(body)
    if wide is not None:
        return wide
    fits_utf8 = is_utf8(body)
    for codec in declared:
        if codec in _SEVEN_BITS and any(shift in body for shift in _SHIFTS):
            return codec
        if codec.startswith("utf-16") and not fits_utf8:
            return codec
    legacy = [codec for codec in declared if not codec.startswith("utf")]
    if fits_utf8 and not (legacy and legacy[0] in _MULTI_BYTE and _is_short_double_byte(body)):
        return "iso2022_jp" if body.isascii() and b"\x1b$" in body else "utf-8"
    if not fits_utf8 and _mends_utf8(body, is_declared="utf-8" in declared):
        return "utf-8"
    if not legacy:
        return _detect_codec(body)
    return legacy[0] if _error_share(body, legacy[0]) == 0 else _choose_damaged(body, legacy)


def _choose_damaged(body: bytes, declared: list[str]) -> str:
    """Codec of a body that the first declared one cannot decode without errors.

    Another one that can, by declaration or detection, is right where it has several bytes to a
    character, as no text of another charset keeps its rules. Else a few errors are damage.
    """
    others = [*declared[1:], _detect_codec(body)]
    for codec in others:
        if codec in _MULTI_BYTE and _error_share(body, codec) == 0:
            return codec
    return declared[0] if _error_share(body, declared[0]) <= _MAX_DAMAGE else others[-1]


def _declared_codecs(body: bytes, content_type: str, *, is_plain: bool) -> list[str]:
    """Codecs that the header and the document declare, in this order."""
    match = _HEADER_CHARSET.search(content_type)
    codec = find_codec(match[1]) if match else None
    declared = [codec] if codec is not None else []
    if not is_plain or body[:_WIDE_SAMPLE].lstrip().startswith(b"<"):
        codec = html_body_declared_encoding(body)
        # What could be read as ASCII is no UTF-16, whatever it says (HTML standard, 13.2.3.2).
        codec = "utf-8" if codec is not None and codec.startswith("utf") else codec
        declared += [codec] if codec in _READ_CODECS else []
    return declared


@lru_cache(maxsize=512)
def find_codec(label: str) -> str | None:
    """Find Python's codec for a charset's label by the Encoding Standard; None for no label."""
    label = label.strip().lower()
    encoding = webencodings.lookup(label)
    if label in _UNSUPPORTED_CODECS or encoding is None or encoding.name == "replacement":
        return _UNSUPPORTED_CODECS.get(label)
    return _PYTHON_CODECS.get(encoding.name) or str(encoding.codec_info.name)


def is_utf8(body: bytes) -> bool:
    """True for bytes that are UTF-8."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_short_double_byte(body: bytes) -> bool:
    """True for at most two characters of two bytes, which may be UTF-8 by chance."""
    beyond = body.translate(None, bytes(range(0x80)))
    return 0 < len(beyond) <= 4 and all(byte < 0xE0 for byte in beyond)


def _mends_utf8(body: bytes, *, is_declared: bool) -> bool:
    """True where nearly all characters beyond ASCII are UTF-8: a few bytes were damaged.

    In other charsets at most one character in seven is UTF-8 by chance (GBK, EUC-KR).
    """
    text, length = codecs.utf_8_decode(body, "replace", False)
    cut = body[length:]  # the beginning of a last character
    good = len(text) - len(text.encode("ascii", "ignore"))
    bad = text.count("\ufffd") - body.count(b"\xef\xbf\xbd")
    good -= bad
    if not good and not bad and not is_declared:
        # The only such character: a letter of Latin-1, as at the end of "José", or half of one.
        return len(cut) > 1 or cut < b"\xe0"
    return good + bool(cut) > bad * (1 if is_declared else 4)


def _error_share(body: bytes, codec: str) -> float:
    """Share of errors among the characters beyond ASCII of a body with at least one."""
    text = body.decode(codec, "vendor_kanji" if codec == "euc_jp" else "replace")
    return text.count("\ufffd") / max(1, len(text) - len(text.encode("ascii", "ignore")))


def _detect_codec(body: bytes) -> str:
    """Codec of a body that declares none, by the statistics of its text (Firefox's detector)."""
    text = _NO_TEXT.sub(b" ", body[:_MAX_DETECTED])
    beyond = len(text) - len(text.translate(None, bytes(range(0x80, 0x100))))
    if beyond < _FEW_ACCENTS * len(_LETTER.findall(text)):
        return _choose_latin(text, "cp1252")
    detector = EncodingDetector()
    detector.feed(text, last=True)
    name = detector.guess(tld=None, allow_utf8=False)  # a label, or Python's name
    return _choose_latin(text, find_codec(name) or codecs.lookup(name).name)


def _choose_latin(text: bytes, detected: str) -> str:
    """Codec of a Western text: the detected one, or one of old systems that the detector lacks.

    Read by a wrong one, words have signs and capitals in their middle.
    """
    inside = [match[0] for match in _INSIDE_WORD.finditer(text)]
    if detected in _MULTI_BYTE or len(inside) < _LEAST_INSIDE:
        return detected
    if _misfit_share(inside, detected) < _MANY_MISFITS:
        return detected
    shares = {codec: _misfit_share(inside, codec) for codec in _OLD_LATIN_CODECS}
    best = min(shares, key=lambda codec: shares[codec])
    return best if shares[best] <= _FEW_MISFITS else detected


def _misfit_share(inside: list[bytes], codec: str) -> float:
    """Share of bytes between small letters that are no small letters of Europe's languages."""
    characters = b"".join(inside).decode(codec, "replace")
    fit = sum(
        character in _JOINING or (character.islower() and "\u00df" <= character <= "\u017f")
        for character in characters
    )
    return 1 - fit / max(1, len(characters))


def _decode_vendor_kanji(error: UnicodeError) -> tuple[str, int]:
    """Characters that vendors added to JIS X 0208, which Python knows in Shift_JIS alone.

    The standard reads EUC-JP and ISO-2022-JP by the same table as Shift_JIS: row and cell are put
    as Shift_JIS puts them (JIS X 0208, appendix 1).
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    pair = error.object[error.start : error.start + 2]
    row, cell = (pair[0] & 0x7F) - 0x21, (pair[-1] & 0x7F) - 0x21
    is_pair = len(pair) == 2 and not (pair[0] ^ pair[1]) & 0x80
    if is_pair and 0 <= row < 94 and 0 <= cell < 94:
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = cell + (0x9F if row % 2 else 0x40 if cell < 63 else 0x41)
        kanji = bytes([lead, trail]).decode("cp932", "ignore")
        if kanji:
            return kanji, error.start + 2
    return "\ufffd", error.start + 1


def _find_web_codec(name: str) -> codecs.CodecInfo | None:
    """Codec for a label that the standard knows and Python does not, as ``x_gbk``."""
    codec = find_codec(name.replace("_", "-")) or find_codec(name)
    return codecs.lookup(codec) if codec is not None else None


codecs.register_error("vendor_kanji", _decode_vendor_kanji)
codecs.register(_find_web_codec)  # w3lib asks Python for what a page declares
_READ_CODECS = frozenset(
    codec for label in webencodings.labels.LABELS if (codec := find_codec(label)) is not None
)
