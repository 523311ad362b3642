"""Boilerplate elements by tag and class name: menus, notices, share bars, comments."""

from __future__ import annotations

import re

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import TEXT_LENGTH, drop_element, is_inside

_BOILERPLATE_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|menu|breadcrumbs?|footer|shar(?:e|ing)|social|cookies?|consent|gdpr|"
    r"related|newsletter|subscribe|sidebar|toc|pagination|pager|advert|promo|edit|editsection|"
    r"headerlink|hash-link|skip-link|skip-to|back-to-top|modal|feedback)(?:$|[\s_-])",
    re.IGNORECASE,
)
_COMMENT_NAMES = re.compile(r"\b(?:comments?|disqus|respond|replies)(?:\b|[_-])", re.IGNORECASE)
_BLOCKS = ("div", "section", "ol", "ul", "aside", "article", "p", "form", "header", "footer", "nav")
_LARGE_SHARE = 0.5
"""Share of a page's text above which an element is no menu, whatever its class name."""


def _class_and_id(element: Element) -> str:
    return f"{element.get('class') or ''} {element.get('id') or ''}"


def is_boilerplate(element: Element) -> bool:
    """True for an element whose tag, class or id marks it as a menu, a share bar or the like."""
    return (
        element.tag in ("nav", "footer")
        or _BOILERPLATE_NAMES.search(_class_and_id(element)) is not None
    )


def has_comments(body: Element) -> bool:
    """True for a page with readers' comments, by the class names and ids of its elements."""
    return any(_COMMENT_NAMES.search(_class_and_id(element)) for element in body.iter(*_BLOCKS))


def drop_boilerplate(body: Element, *, comments: bool) -> None:
    """Drop the boilerplate of a page that is otherwise kept whole.

    Args:
        body: The page's body, which is changed.
        comments: Keep readers' comments.
    """
    large = _LARGE_SHARE * TEXT_LENGTH(body)
    for element in list(body.iterdescendants(*_BLOCKS)):
        is_out = is_boilerplate(element) or (
            not comments and _COMMENT_NAMES.search(_class_and_id(element)) is not None
        )
        if is_out and is_inside(element, body) and TEXT_LENGTH(element) <= large:
            drop_element(element)
