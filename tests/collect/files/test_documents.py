"""Documents by the converter: each kind, and those that crash, hang or cannot be read."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from components.collect.files.converters import conversion_pool
from components.collect.files.converters.conversion_pool import ConversionPool
from components.collect.files.converters.convert_document import (
    WIKITEXT_TYPE,
    Conversion,
    ConvertedText,
)
from tests.collect.files.reading import read_folder, zip_bytes

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TYPES = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def docx() -> bytes:
    paragraphs = (
        '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Bridges</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>Some words about bridges.</w:t></w:r></w:p>"
    )
    return zip_bytes(
        {
            "[Content_Types].xml": f'<Types xmlns="{TYPES}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
            'PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.wordprocessingml.document.main+xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{TYPES}/relationships"><Relationship Id="r1" '
            f'Type="{OFFICE}" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f"<w:document {W}><w:body>{paragraphs}</w:body></w:document>",
        }
    )


def epub() -> bytes:
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{}</h1><p>{}</p></body></html>'
    return zip_bytes(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container version="1.0" '
            'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
            'full-path="O/c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "O/c.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>My Book</dc:title></metadata>'
            '<manifest><item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "O/a.xhtml": page.format("One", "The first chapter."),
            "O/b.xhtml": page.format("Two", "The second chapter."),
        }
    )


def odt() -> bytes:
    names = "urn:oasis:names:tc:opendocument:xmlns"
    text = '<text:h text:outline-level="1">Title</text:h><text:p>Words of an open document</text:p>'
    return zip_bytes(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{names}:manifest:1.0"/>',
            "content.xml": f'<office:document-content xmlns:office="{names}:office:1.0" '
            f'xmlns:text="{names}:text:1.0"><office:body><office:text>{text}</office:text>'
            "</office:body></office:document-content>",
        }
    )


def pptx() -> bytes:
    office = "http://schemas.openxmlformats.org"
    names = (
        f'xmlns:a="{office}/drawingml/2006/main" xmlns:p="{office}/presentationml/2006/main" '
        f'xmlns:r="{office}/officeDocument/2006/relationships"'
    )
    links = f'<Relationships xmlns="{TYPES}/relationships"><Relationship Id="r1" Type="{{}}" Target="{{}}"/></Relationships>'
    kind = "application/vnd.openxmlformats-officedocument.presentationml"
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>Words on a slide</a:t></a:r></a:p></p:txBody></p:sp>"
    slide = f"{office}/officeDocument/2006/relationships/slide"
    return zip_bytes(
        {
            "[Content_Types].xml": f'<Types xmlns="{TYPES}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/ppt/presentation.xml" ContentType="{kind}.presentation.main+xml"/>'
            f'<Override PartName="/ppt/slides/slide1.xml" ContentType="{kind}.slide+xml"/></Types>',
            "_rels/.rels": links.format(OFFICE, "ppt/presentation.xml"),
            "ppt/presentation.xml": f"<p:presentation {names}><p:sldIdLst>"
            '<p:sldId id="256" r:id="r1"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": links.format(slide, "slides/slide1.xml"),
            "ppt/slides/slide1.xml": f"<p:sld {names}><p:cSld><p:spTree>{shape}</p:spTree>"
            "</p:cSld></p:sld>",
        }
    )


def pdf(text: str) -> bytes:
    """A PDF of one page with one line."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, item in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj%sendobj\n" % (number, item)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(content)
    return content + b"xref\n0 6\n0000000000 65535 f \n" + table + end


NOTEBOOK: dict[str, Any] = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Notebook\n", "\n", "words"]},
        {"cell_type": "code", "metadata": {}, "source": "x = 1", "outputs": []},
    ],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def test_documents_of_every_kind(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in {
        "a.docx": docx(),
        "b.epub": epub(),
        "c.pdf": pdf("Words of a portable document"),
        "d.ipynb": json.dumps(NOTEBOOK).encode(),
        "e.rtf": rb"{\rtf1\ansi Words in {\b bold}.\par Next}",
        "f.zip": zip_bytes({"inner.docx": docx()}),
        "g.docx": b"PK",
        "h.pdf": b"%PDF-1.4",
        "i.md": b"beside",
        "j.odt": odt(),
        "k.pptx": pptx(),
    }.items():
        (folder / name).write_bytes(content)
    reading = read_folder(folder)
    texts = {url.removeprefix("file:///in/"): text for url, text in reading.texts.items()}
    assert set(texts) == {
        "a.docx", "b.epub", "c.pdf", "d.ipynb", "e.rtf", "f.zip/inner.docx", "i.md",
        "j.odt", "k.pptx",
    }  # fmt: skip
    assert "Some words about bridges." in texts["a.docx"] == texts["f.zip/inner.docx"]
    assert texts["a.docx"].lstrip().startswith("#")
    first, second = texts["b.epub"].index("first chapter"), texts["b.epub"].index("second chapter")
    assert first < second
    assert "Words of a portable document" in texts["c.pdf"]
    assert "# Notebook\n\nwords\n\n```" in texts["d.ipynb"]
    assert "x = 1" in texts["d.ipynb"]
    assert "Words in **bold**." in texts["e.rtf"]
    assert "# Title\n\nWords of an open document" in texts["j.odt"]
    assert "Words on a slide" in texts["k.pptx"]
    titles = {page.url: page.title for page in reading.pages}
    assert titles["file:///in/b.epub"] == "My Book"
    assert set(reading.reasons) == {"file:///in/g.docx", "file:///in/h.pdf"} == reading.failed


def test_without_the_extra_a_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion_pool.importlib.util, "find_spec", lambda name: None)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.docx").write_bytes(docx())
    (folder / "b.md").write_text("words")
    (folder / "c.xml").write_text("<mediawiki/>")
    reading = read_folder(folder)
    assert list(reading.texts) == ["file:///in/b.md"]
    assert "pip install 'modelmill[documents]'" in reading.reasons["file:///in/a.docx"]
    assert "mwparserfromhell" in reading.reasons["file:///in/c.xml"]


def hang(task: Conversion) -> ConvertedText:
    """A converter that hangs, crashes, takes all memory, or works, by the task's title."""
    if task.title == "hang":
        time.sleep(60)
    if task.title == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task.title == "memory":
        bytearray(8 << 30)
    return ConvertedText(f"text of {task.place}")


def test_a_conversion_that_fails_costs_its_own_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion_pool, "convert_document", hang)
    titles = ["a", "hang", "b", "crash", "c", "memory", "d"]
    tasks = [Conversion(title, b"", WIKITEXT_TYPE, title) for title in titles]
    with ConversionPool(seconds=5, workers=1) as pool:
        results = [outcome for _, outcome in pool.convert_all(tasks)]
    assert [result.text for result in results if isinstance(result, ConvertedText)] == [
        f"text of {title}" for title in ("a", "b", "c", "d")
    ]
    assert isinstance(results[1], str)
    assert results[1] == "took more than 5 s to convert"
    assert isinstance(results[3], str)
    assert results[3].startswith("ended its converter")
    assert isinstance(results[5], str)
    assert "memory" in results[5]
