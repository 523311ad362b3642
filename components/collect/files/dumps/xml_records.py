"""Records of an XML dump as elements, read as a stream; a broken one costs itself alone.

A dump is a root element with millions of equal children, whose beginning no text of them can hold
(``<`` is escaped there). So each is handed to the parser by itself, and after a fault the parser
starts again at the next one. Characters that XML has none of are left out before. Entities are not
resolved, nothing is fetched, and a text is as large as libxml2's bound.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal
from xml.sax.saxutils import quoteattr

from lxml import etree
from w3lib.encoding import read_bom

from components.collect.web.charset import find_codec
from components.collect.web.media_types import find_wide_codec

_CHUNK = 1 << 16
_DECLARED_BYTES = 4096
"""First bytes, in which the charset is declared."""
_MAX_HEAD = 1 << 20
"""Characters in which the root element must begin, and all before the first record must end."""
_DECLARATION = re.compile(r"\s*<\?xml\b[^>]*?(?:encoding\s*=\s*[\"']([\w.:-]+)[\"'][^>]*)?\?>")
_UNDECODED = "\ufdd0"
"""Stands for bytes that are none of the charset; a noncharacter, which no text holds."""
_UNFIT = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]|[fF]{3}[efEF]));"
)
"""Characters and references to some that XML 1.0 (section 2.2) does not allow."""
_SURROGATES = re.compile(r"(?:&#(?:[xX][dD][89a-fA-F][0-9a-fA-F]{2}|5[5-7][0-9]{3});)+")
"""References to halves of a character of UTF-16, by which some writers write emoji."""
_LONGEST_REFERENCE = 16
_TAG_END = re.compile("(?<=>)")
_RECORD_NAME = re.compile(r"\bId=\"(\w+)\"|<(?:\w+:)?title>([^<]{1,200})</")
_NAMED_CHARS = 2000
"""Characters of a record in which its name stands, if it has one."""
_POSITION = re.compile(r", line \d+, column \d+.*", re.DOTALL)


@dataclass(frozen=True)
class BrokenRecord:
    """Record that is no XML, with its own name or its number."""

    name: str
    reason: str


class XmlRecords:
    """Elements of a dump's records, as each of them ends."""

    def __init__(self, stream: BinaryIO) -> None:
        """Read up to the beginning of the root element.

        Raises:
            etree.XMLSyntaxError: There is none.
        """
        self._pieces = _clean_pieces(stream)
        self.head = ""
        """Text from the root element on, up to the first record once that is read."""
        root = self._read_root()
        self.root_name = etree.QName(root).localname
        self._prefix = f"{root.prefix}:" if root.prefix else ""
        spaces = (
            f" xmlns{f':{prefix}' if prefix else ''}={quoteattr(space)}"
            for prefix, space in root.nsmap.items()
        )
        self._wrapper = f"<{self._prefix}{self.root_name}{''.join(spaces)}>".encode()
        self._parser: Any = None
        self._start = ""
        self._reason = ""
        self._is_whole = True
        self._count = 0

    def _read_root(self) -> etree._Element:
        parser = _make_parser(("start",))
        while len(self.head) < _MAX_HEAD and (piece := next(self._pieces, "")):
            self.head += piece
            for part in _TAG_END.split(piece):  # what follows the root may be broken
                parser.feed(part.encode())
                for _, element in parser.read_events():
                    return element  # type: ignore[no-any-return]
        root: etree._Element = parser.close()  # raises: it has no root element
        return root

    def read_elements(self, name: str) -> Iterator[etree._Element | BrokenRecord]:
        """Read the elements of all records as they end, the record itself last.

        Args:
            name: Local name of a record's element.
        """
        tag, root = re.escape(f"{self._prefix}{name}"), re.escape(f"{self._prefix}{self.root_name}")
        boundary = re.compile(rf"<{tag}(?=[\s/>])|</{root}\s*>")
        rest, self.head = self.head, ""
        is_closed = False
        while True:
            position = 0
            for match in boundary.finditer(rest):
                yield from self._feed(rest[position : match.start()], name)
                yield from self._finish_record()
                position = match.start()
                is_closed = match[0].startswith("</")
                if is_closed:
                    position = match.end()
                else:
                    self._start_record()
            # A boundary may be cut at the end of the piece.
            cut = rest.rfind("<", max(position, len(rest) - len(name) - 64))
            end = cut if cut >= 0 and ">" not in rest[cut:] else len(rest)
            yield from self._feed(rest[position:end], name)
            piece = next(self._pieces, "")
            if not piece:
                yield from self._feed(rest[end:], name)
                break
            rest = rest[end:] + piece
        yield from self._finish_record()
        if not is_closed:
            reason = f"cannot be read as XML from here on: </{self.root_name}> is missing"
            yield BrokenRecord(str(self._count + 1), reason)

    def _start_record(self) -> None:
        self._count += 1
        self._start, self._reason, self._is_whole = "", "", False
        if self._parser is None:
            self._parser = _make_parser(("end",))
            self._parser.feed(self._wrapper)

    def _feed(self, text: str, name: str) -> Iterator[etree._Element]:
        if not self._count:
            if len(self.head) < _MAX_HEAD:
                self.head += text
            return
        if self._is_whole or self._reason or not text:
            return  # between records, or in a broken one
        if len(self._start) < _NAMED_CHARS:
            self._start += text[:_NAMED_CHARS]
        if _UNDECODED in text:
            self._reason = "a byte of it is none of its charset"
            return
        try:
            self._parser.feed(text.encode())
        except etree.XMLSyntaxError as error:
            self._reason = f"is no XML: {_POSITION.sub('', str(error))}"
            return
        for _, element in self._parser.read_events():
            parent = element.getparent()
            if parent is not None and parent.getparent() is None:
                self._is_whole = etree.QName(element).localname == name
            yield element

    def _finish_record(self) -> Iterator[BrokenRecord]:
        if self._is_whole:
            return
        self._parser, self._is_whole = None, True  # it may be inside of an element
        match = _RECORD_NAME.search(self._start)
        name = (match[1] or match[2]) if match else f"record-{self._count}"
        yield BrokenRecord(name, self._reason or "is no XML: its element does not end")


def _make_parser(events: tuple[Literal["start", "end"], ...]) -> Any:
    return etree.XMLPullParser(
        events,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _clean_pieces(stream: BinaryIO) -> Iterator[str]:
    """Text of a document, without its declaration and without what XML does not allow."""
    chunk = stream.read(_DECLARED_BYTES)
    codec, mark = read_bom(chunk)
    if codec is None or mark is None:
        codec, mark = find_wide_codec(chunk), b""
    if codec is None:
        declared = _DECLARATION.match(chunk.decode("latin-1"))
        codec = find_codec(declared[1]) if declared and declared[1] else None
        codec = codec if codec is not None and not codec.startswith("utf") else "utf-8"
    decoder = codecs.getincrementaldecoder(codec)("xml_damage")
    text, is_first = decoder.decode(chunk[len(mark) :]), True
    while chunk or text:
        if is_first:
            text, is_first = _DECLARATION.sub("", text.lstrip("\ufeff \t\r\n"), count=1), False
        following = stream.read(_CHUNK)
        # A reference at the end may be cut, and a half of a character.
        cut = text.rfind("&", len(text) - 2 * _LONGEST_REFERENCE) if following else -1
        end = cut if cut >= 0 else len(text)
        piece = _UNFIT.sub("", _SURROGATES.sub(_join_surrogates, text[:end]))
        if piece:
            yield piece
        chunk, text = following, text[end:] + decoder.decode(following, final=not following)
        if not following and not text:
            return


def _join_surrogates(references: re.Match[str]) -> str:
    """Characters that references to halves stand for; a half alone is left out."""
    numbers = references[0].replace("&#", "").rstrip(";").split(";")
    characters = "".join(chr(int(n[1:], 16) if n[0] in "xX" else int(n)) for n in numbers)
    return characters.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _mark_undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _UNDECODED, error.end


codecs.register_error("xml_damage", _mark_undecoded)
