"""Converters of one document, run in a worker: kreuzberg's for files, our own for wikitext.

kreuzberg (MIT, Rust) reads PDF, office files, EPUB and notebooks without a network: neither its
cache nor text recognition is switched on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

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


def convert_document(task: Conversion) -> ConvertedText | str:
    """Convert a document; the reason where it cannot be read."""
    if task.media_type == WIKITEXT_TYPE:
        from components.collect.files.converters.wikitext import write_wikitext

        return ConvertedText(write_wikitext(task.content.decode(errors="replace")), task.title)
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False, enable_quality_processing=False, output_format="markdown"
    )
    try:
        result: Any = kreuzberg.extract_bytes_sync(task.content, task.media_type, config=config)
    except kreuzberg.KreuzbergError as error:
        return f"cannot be converted: {_first_line(error)}"
    title = (result.metadata or {}).get("title")
    return ConvertedText(
        _PAGE_BREAK.sub("\n\n", result.content), title if isinstance(title, str) else ""
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
