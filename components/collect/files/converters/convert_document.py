"""Converters of one document, run in a worker: kreuzberg's for files, our own for wikitext.

kreuzberg (MIT, Rust) reads PDF, office files, EPUB and notebooks without a network: neither its
cache nor text recognition is switched on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from components.collect.files.converters.epub_chapters import EPUB_TYPE, rewrite_epub
from components.collect.files.converters.notebook_cells import NOTEBOOK_TYPE, upgrade_notebook

CONVERTER_PACKAGES = {"document": "kreuzberg", "wikitext": "mwparserfromhell"}
"""Package that each converter needs; the extra ``documents`` brings both."""
WIKITEXT_TYPE = "text/x-wiki"
"""Media type of MediaWiki's markup."""
_PAGE_BREAK = re.compile(r"\n*\f\n*")


@dataclass(frozen=True)
class Conversion:
    """A document to convert."""

    place: str
    content: bytes
    media_type: str
    title: str = ""
    url: str = ""


@dataclass(frozen=True)
class ConvertedText:
    """Markdown of a document, with the title that it gives itself."""

    text: str
    title: str = ""
    lost: tuple[tuple[str, str], ...] = ()
    """(name, reason) of its parts that are not in the text."""


def convert_document(task: Conversion) -> ConvertedText | str:
    """Convert a document; the reason where it cannot be read."""
    if task.media_type == WIKITEXT_TYPE:
        from components.collect.files.converters.wikitext import write_wikitext

        return ConvertedText(write_wikitext(task.content.decode(errors="replace")), task.title)
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False, enable_quality_processing=False, output_format="markdown"
    )
    content, book = task.content, None
    if task.media_type == NOTEBOOK_TYPE:
        content = upgrade_notebook(content)
    if task.media_type == EPUB_TYPE:
        try:
            book = rewrite_epub(content)
        except ValueError as error:
            return f"cannot be converted: {_first_line(error)}"
        content = book.content
    try:
        result: Any = kreuzberg.extract_bytes_sync(content, task.media_type, config=config)
    except kreuzberg.KreuzbergError as error:
        return f"cannot be converted: {_first_line(error)}"
    title = (result.metadata or {}).get("title")
    text = _PAGE_BREAK.sub("\n\n", result.content)
    lost = tuple(book.find_lost_chapters(text)) if book is not None else ()
    return ConvertedText(text, title if isinstance(title, str) else "", lost)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
