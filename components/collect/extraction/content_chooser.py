"""Content chooser: the main text of a page by trafilatura."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from trafilatura import bare_extraction
from trafilatura.settings import Document
from trafilatura.xml import xmltotxt

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import BACKSLASH_MARK

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # a page without text is no event


@dataclass(frozen=True)
class ChosenText:
    """Main text that trafilatura chose."""

    text: str
    body: Any
    """trafilatura's own tree of it, from which it writes Markdown."""

    def as_markdown(self) -> str:
        """trafilatura's own Markdown of the chosen text."""
        markdown = str(xmltotxt(self.body, include_formatting=True))
        return markdown.replace(BACKSLASH_MARK, "\\").strip()


def choose_text(root: Element, *, comments: bool) -> ChosenText | None:
    """Choose a page's main text by trafilatura's defaults; None where it finds none.

    Args:
        root: The page's tree, which is not changed.
        comments: Include readers' comments, as for a forum.
    """
    document = bare_extraction(root, include_comments=comments)
    if not isinstance(document, Document) or not document.text:
        return None
    text, body = document.text, document.body
    if comments and document.comments:
        text = f"{text}\n{document.comments}"
        body.extend(document.commentsbody)
    return ChosenText(text, body)
