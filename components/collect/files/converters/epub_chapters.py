"""EPUB put as every reader of it takes it: chapters in the order of the spine, under plain names.

Books name their chapters percent-encoded, in other cases of letters or forms of Unicode, and write
them in any charset or as loose HTML (EPUB 3.3, sections 4.2 and 5.6; OPF 2.0). A converter that
takes the names as they are leaves such chapters out without a word, so they are resolved here, and
afterwards each chapter is looked for in what came out.
"""

from __future__ import annotations

import io
import posixpath
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import lxml.html
from lxml import etree

from components.collect.web.charset import decode_page

EPUB_TYPE = "application/epub+zip"
_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_XHTML = "http://www.w3.org/1999/xhtml"
_TEXT_TYPES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml", ""})
_MAX_BYTES = 512 << 20
"""Chapters of a book, unpacked."""
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_PROBE_CHARS = 60
"""Letters of a chapter's longest passage by which it is known again."""
_NO_LETTER = re.compile(r"[\W_]+")
_CANONICAL_CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
    'version="1.0"><rootfiles><rootfile full-path="book.opf" '
    'media-type="application/oebps-package+xml"/></rootfiles></container>'
)


@dataclass(frozen=True)
class EpubChapter:
    """A chapter of the spine."""

    name: str
    """Its path in the book."""
    content: bytes = b""
    """XHTML in UTF-8; empty where it cannot be read."""
    probe: str = ""
    """Letters that its text holds; empty for a chapter without text."""
    reason: str = ""
    """Reason for which it cannot be read."""


@dataclass(frozen=True)
class CanonicalEpub:
    """A book as any converter reads it."""

    content: bytes
    chapters: tuple[EpubChapter, ...]

    def find_lost_chapters(self, text: str) -> list[tuple[str, str]]:
        """(path, reason) of the chapters that are not in the text that a converter gave."""
        letters = _NO_LETTER.sub("", text)
        lost = [(chapter.name, chapter.reason) for chapter in self.chapters if chapter.reason]
        for chapter in self.chapters:
            if chapter.probe and chapter.probe not in letters:
                lost.append((chapter.name, "was left out by the converter"))
        return lost


def rewrite_epub(content: bytes) -> CanonicalEpub:
    """Rewrite a book with nothing but its title and the chapters of its spine.

    Raises:
        ValueError: It is no book that can be read as one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError(f"unpacks to more than {_MAX_BYTES} bytes")
            book = _Book(archive)
            chapters = tuple(book.read_chapters())
            return CanonicalEpub(_write_epub(book.title, chapters), chapters)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    except etree.XMLSyntaxError as error:
        raise ValueError(f"its list of chapters is no XML: {error}") from error


class _Book:
    """Package document of a book, and its members by name."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = {_fold_name(name): name for name in reversed(archive.namelist())}
        container = self._find_member(_CONTAINER)
        path = ""
        if container:
            root: Any = _parse_xml(archive.read(container))
            path = next(iter(root.xpath("//*[local-name()='rootfile']/@full-path")), "")
        packages = [name for name in archive.namelist() if name.lower().endswith(".opf")]
        self._path = self._find_member(path) or next(iter(packages), "")
        if not self._path:
            raise ValueError("it has no package document")
        self._package = _parse_xml(archive.read(self._path))
        titles = self._package.xpath("//*[local-name()='metadata']//*[local-name()='title']")
        self.title = " ".join("".join(titles[0].itertext()).split()) if titles else ""
        encryption = self._find_member(_ENCRYPTION)
        listed: Any = _parse_xml(archive.read(encryption)) if encryption else etree.Element("none")
        uris = listed.xpath("//*[local-name()='CipherReference']/@URI")
        self._encrypted = {self._find_member(str(uri)) for uri in uris}

    def read_chapters(self) -> Iterator[EpubChapter]:
        """Read the chapters in the order of the spine."""
        items = {
            item.get("id"): item
            for item in self._package.xpath("//*[local-name()='manifest']/*[local-name()='item']")
        }
        folder = posixpath.dirname(self._path)
        for reference in self._package.xpath("//*[local-name()='spine']/*[@idref]"):
            item = items.get(reference.get("idref"))
            if item is None:
                yield EpubChapter(reference.get("idref"), reason="is not in the book's manifest")
                continue
            if item.get("media-type", "").strip().lower() not in _TEXT_TYPES:
                continue  # a picture
            path = posixpath.join(folder, item.get("href", "").partition("#")[0])
            member = self._find_member(path)
            if not member:
                yield EpubChapter(path, reason="is not in the book")
            elif member in self._encrypted:
                yield EpubChapter(member, reason="is encrypted")
            else:
                yield _rewrite_chapter(member, self._archive.read(member))

    def _find_member(self, path: str) -> str:
        """Member that a path means; empty for none."""
        for name in (path, unquote(path)):
            member = self._names.get(_fold_name(name))
            if member is not None:
                return member
        return ""


def _fold_name(name: str) -> str:
    plain = posixpath.normpath(name.replace("\\", "/")).lstrip("./")
    return unicodedata.normalize("NFC", plain).casefold()


def _parse_xml(content: bytes) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root = etree.fromstring(content, parser)
    if root is None:
        raise ValueError("its list of chapters is empty")
    return root


def _rewrite_chapter(name: str, content: bytes) -> EpubChapter:
    """Chapter in UTF-8, without a head, whose title is the book's."""
    text = _DECLARATION.sub("", decode_page(content, "application/xhtml+xml"), count=1)
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root: Any = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError:
        try:
            root = lxml.html.document_fromstring(text)
        except (etree.ParserError, etree.XMLSyntaxError):
            return EpubChapter(name)  # nothing in it
        root.set("xmlns", _XHTML)
    for head in root.xpath("//*[local-name()='head']"):
        head.getparent().remove(head)
    for part in root.xpath("//*[local-name()='script' or local-name()='style']"):
        part.drop_tree() if hasattr(part, "drop_tree") else part.getparent().remove(part)
    passages = (_NO_LETTER.sub("", passage) for passage in root.itertext())
    probe = max(passages, key=len, default="")[:_PROBE_CHARS]
    return EpubChapter(name, etree.tostring(root, encoding="utf-8"), probe)


def _write_epub(title: str, chapters: tuple[EpubChapter, ...]) -> bytes:
    contents = [chapter.content for chapter in chapters if chapter.content]
    numbers = range(len(contents))
    items = "".join(
        f'<item id="c{at}" href="c{at}.xhtml" media-type="application/xhtml+xml"/>'
        for at in numbers
    )
    spine = "".join(f'<itemref idref="c{at}"/>' for at in numbers)
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{escape(title)}</dc:title></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", EPUB_TYPE)
        archive.writestr(_CONTAINER, _CANONICAL_CONTAINER)
        archive.writestr("book.opf", package)
        for at, chapter in enumerate(contents):
            archive.writestr(f"c{at}.xhtml", chapter)
    return file.getvalue()
