"""Chapters of EPUB books under every name that a spine gives them, and notebooks of old formats."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tests.collect.files.reading import Reading, read_folder, zip_bytes

pytest.importorskip("kreuzberg")
CONTAINER = (
    '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="O/c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
ENCRYPTION = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData '
    'xmlns="http://www.w3.org/2001/04/xmlenc#"><CipherData><CipherReference URI="O/b.xhtml"/>'
    "</CipherData></EncryptedData></encryption>"
)


def page(heading: str, words: str, head: str = '<?xml version="1.0"?>') -> str:
    return (
        f'{head}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>'
        f"<body><h1>{heading}</h1><p>{words}</p></body></html>"
    )


def book(
    href: str, member: str, content: bytes | str, kind: str = "application/xhtml+xml", **more: str
) -> bytes:
    """A book of three chapters; the second is told."""
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>My Book &amp; I</dc:title></metadata>'
        '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        f'<item id="b" href="{href}" media-type="{kind}"/>'
        '<item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>'
    )
    return zip_bytes(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "O/c.opf": package,
            "O/a.xhtml": page("One", "The first chapter."),
            member: content,
            "O/c.xhtml": page("Three", "The third chapter."),
            **more,
        }
    )


SECOND = page("Two", "The second chapter.")
LATIN = page("Two", "The second chapter, caf\u00e9.", '<?xml version="1.0" encoding="iso-8859-1"?>')
BOOKS = {
    "blank": book("b%20two.xhtml", "O/b two.xhtml", SECOND),
    "umlaut": book("kapitel-%C3%BC.xhtml", "O/kapitel-\u00fc.xhtml", SECOND),
    "plain-umlaut": book("kapitel-\u00fc.xhtml", "O/kapitel-\u00fc.xhtml", SECOND),
    "decomposed": book("%C3%BC.xhtml", f"O/{unicodedata.normalize('NFD', chr(252))}.xhtml", SECOND),
    "as-written": book("b%20two.xhtml", "O/b%20two.xhtml", SECOND),
    "case": book("Text/B.xhtml", "O/text/b.XHTML", SECOND),
    "above": book("../T/b.xhtml#here", "T/b.xhtml", SECOND),
    "dot": book("./b.xhtml", "O/b.xhtml", SECOND),
    "latin": book("b.xhtml", "O/b.xhtml", LATIN.encode("latin-1")),
    "utf16": book("b.xhtml", "O/b.xhtml", LATIN.replace("iso-8859-1", "utf-16").encode("utf-16")),
    "entity": book("b.xhtml", "O/b.xhtml", page("Two", "The second&nbsp;chapter.<br>And more.")),
    "html": book("b.html", "O/b.html", SECOND.replace("</p>", ""), "text/html"),
}


def read_books(tmp_path: Path, books: dict[str, bytes], suffix: str = "epub") -> Reading:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in books.items():
        (folder / f"{name}.{suffix}").write_bytes(content)
    return read_folder(folder)


def test_every_chapter_is_read_by_whatever_name(tmp_path: Path) -> None:
    reading = read_books(tmp_path, BOOKS)
    assert not reading.reasons
    for name in BOOKS:
        text = reading.texts[f"file:///in/{name}.epub"].replace("\u00a0", " ")
        places = [text.index(words) for words in ("first chapter", "second chapter", "third ch")]
        assert places == sorted(places), name
        assert "title:" not in text
        assert "\ufffd" not in text
        assert ("caf\u00e9" in text) == (name in ("latin", "utf16"))
    assert {page.title for page in reading.pages} == {"My Book & I"}


def test_a_chapter_that_is_not_read_has_a_line(tmp_path: Path) -> None:
    books = {
        "gone": book("b.xhtml", "O/other.xhtml", SECOND),
        "locked": book("b.xhtml", "O/b.xhtml", b"\x93\x12", **{"META-INF/encryption.xml": ENCRYPTION}),
        "picture": book("b.png", "O/b.png", b"\x89PNG", "image/png"),
        "empty": book("b.xhtml", "O/b.xhtml", page("", "")),
        "none": zip_bytes({"mimetype": "application/epub+zip"}),
        "text": b"no book at all",
    }  # fmt: skip
    reading = read_books(tmp_path, books)
    assert set(reading.texts) == {
        f"file:///in/{name}.epub" for name in ("gone", "locked", "picture", "empty")
    }
    assert reading.reasons == {
        "file:///in/gone.epub#O/b.xhtml": "its chapter O/b.xhtml is not in the book",
        "file:///in/locked.epub#O/b.xhtml": "its chapter O/b.xhtml is encrypted",
        "file:///in/none.epub": "cannot be converted: it has no package document",
        "file:///in/text.epub": "cannot be converted: File is not a zip file",
    }
    assert reading.failed == set(reading.reasons)


def test_notebooks_of_older_formats(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "metadata": {}, "source": "Bridges"},
        {"cell_type": "markdown", "metadata": {}, "source": ["Some ", "words."]},
        {"cell_type": "code", "input": ["x = 1\n", "print(x)"], "language": "python", "outputs": []},
    ]  # fmt: skip
    old = {
        "metadata": {"name": ""},
        "nbformat": 3,
        "nbformat_minor": 0,
        "worksheets": [{"cells": cells}],
    }
    older = {"nbformat": 2, "worksheets": [{"cells": cells[1:2]}, {"cells": cells[2:]}]}
    nothing = {"nbformat": 3, "worksheets": []}
    reading = read_books(
        tmp_path,
        {
            name: json.dumps(notebook).encode()
            for name, notebook in {"old": old, "older": older, "nothing": nothing}.items()
        },
        "ipynb",
    )  # fmt: skip
    text = reading.texts["file:///in/old.ipynb"]
    assert "## Bridges\n\nSome words.\n\n```\nx = 1\nprint(x)" in text
    assert "Some words.\n\n```\nx = 1" in reading.texts["file:///in/older.ipynb"]
    assert reading.reasons == {"file:///in/nothing.ipynb": "holds no text"}
