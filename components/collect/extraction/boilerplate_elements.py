"""Parts of a page that its own class names call no text: menus, notices, share bars, comments."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import drop, is_inside

_NO_TEXT = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|menu|breadcrumbs?|footer|shar(?:e|ing)|social|cookies?|consent|gdpr|"
    r"related|newsletter|subscribe|sidebar|toc|pagination|pager|advert|promo|edit|editsection|"
    r"headerlink|hash-link|skip-link|skip-to|back-to-top|modal|feedback)(?:$|[\s_-])",
    re.IGNORECASE,
)
_COMMENTS = re.compile(r"\b(?:comments?|disqus|respond|replies)(?:\b|[_-])", re.IGNORECASE)
_BLOCKS = ("div", "section", "ol", "ul", "aside", "article", "p", "form", "header", "footer", "nav")
_LARGE = 0.5
"""Of a page's text: a part that holds more is no menu, whatever it is called."""
_LENGTH: Any = etree.XPath("string-length(.)")


def _names(element: Element) -> str:
    return f"{element.get('class') or ''} {element.get('id') or ''}"


def is_boilerplate(element: Element) -> bool:
    """Whether an element's tag or names call it a menu, a share bar or the like."""
    return element.tag in ("nav", "footer") or _NO_TEXT.search(_names(element)) is not None


def has_comments(body: Element) -> bool:
    """Whether readers' words stand on the page, by the names of its parts."""
    return any(_COMMENTS.search(_names(element)) for element in body.iter(*_BLOCKS))


def leave_out_boilerplate(body: Element, *, comments: bool) -> None:
    """Take out of a page that is kept whole what its names call no text.

    Args:
        body: The page's body, which is changed.
        comments: Readers' comments stay.
    """
    large = _LARGE * _LENGTH(body)
    for element in list(body.iterdescendants(*_BLOCKS)):
        is_out = is_boilerplate(element) or (
            not comments and _COMMENTS.search(_names(element)) is not None
        )
        if is_out and is_inside(element, body) and _LENGTH(element) <= large:
            drop(element)
