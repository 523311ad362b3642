"""Documentation generators (Sphinx, mdBook, rustdoc, ...) and the elements that hold their text.

A generator marks its text in the same way on every page, so no heuristic is needed: the container
is taken whole, without its navigation. Marks that other pages use too (``main``, ``articleBody``)
do not identify a generator.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from lxml import etree

from components.collect.extraction.tree.block_structure import HEADINGS
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import (
    class_names,
    class_test,
    drop_element,
    is_inside,
    word_set,
)


class _Generator(NamedTuple):
    """Signs and text containers of one documentation generator."""

    names: tuple[str, ...]
    """Parts of the page's ``generator`` meta element, in lower case."""
    signs: tuple[tuple[str, Any], ...]
    """(substring of the page's source, which is cheap to search; XPath that confirms it)."""
    containers: tuple[Any, ...]


def _define_generator(names: str, signs: dict[str, str], *containers: str) -> _Generator:
    compiled = tuple((mark, etree.XPath(f"boolean({path})")) for mark, path in signs.items())
    return _Generator(tuple(names.split()), compiled, tuple(map(etree.XPath, containers)))


_MATERIAL = f"//article[{class_test('md-content__inner')}]"
_VITEPRESS = f"//*[{class_test('vp-doc')}]"
_GENERATORS = (
    _define_generator(
        "sphinx docutils",
        {
            "sphinxsidebar": f"//div[{class_test('sphinxsidebar')}]",
            "documentation_options": "//script[contains(@src, 'documentation_options.js') or "
            "@id='documentation_options']",
            "_static/doctools.js": "//script[contains(@src, '_static/doctools.js')]",
        },
        '//article[@id="furo-main-content"]',
        f"//article[{class_test('bd-article')}]",
        '//*[@itemprop="articleBody"]',
        '//div[@role="main"]',
        '//*[@role="main"]',
        f"//div[{class_test('body')}]",
        f"//body/div[{class_test('document')}] | //body/main",
    ),
    _define_generator(
        "docbook publican", {"navheader": f"//div[{class_test('navheader')}]"}, "//body"
    ),
    _define_generator(
        "mdbook",
        {"menu-bar": "//div[starts-with(@id, 'menu-bar') or @id='mdbook-menu-bar']"},
        "//div[@id='content' or @id='mdbook-content']//main",
    ),
    _define_generator("rustdoc", {}, '//*[@id="main-content"]', "//main"),
    _define_generator("", {"md-content__inner": _MATERIAL}, _MATERIAL),
    _define_generator("mkdocs", {}, '//*[@itemprop="articleBody"]', '//*[@role="main"]'),
    _define_generator(
        "docusaurus",
        {"__docusaurus": "//div[@id='__docusaurus']"},
        f"//*[{class_test('theme-doc-markdown')}]",
    ),
    _define_generator("vitepress", {"vp-doc": _VITEPRESS}, _VITEPRESS),
    _define_generator("pdoc", {}, f"//main[{class_test('pdoc')}]", "//main"),
    _define_generator("javadoc", {}, "//main", f"//div[{class_test('contentContainer')}]"),
    _define_generator(
        "doxygen", {}, '//div[@id="doc-content"]', f"//div[{class_test('contents')}]"
    ),
    _define_generator("makeinfo texi2any", {}, "//body"),
    _define_generator("antora", {}, f"//article[{class_test('doc')}]"),
    _define_generator("asciidoctor", {}, "//body"),
    _define_generator("starlight", {}, f"//div[{class_test('sl-markdown-content')}]"),
    _define_generator("typedoc", {}, f"//div[{class_test('col-content')}]"),
    _define_generator("docfx", {}, '//article[@id="_content"]', "//article"),
)
_NAVIGATION_TAGS = ("nav", "footer", "button", "form")
_CONTENT_TAGS = frozenset({"body", "code", "main", "pre", "section", "table", *HEADINGS})
_NAVIGATION_CLASSES = word_set(
    "navheader navfooter docnav prevnext prev-next-footer pagination pagination-nav nav-chapters "
    "toc table-of-contents tocwrapper breadcrumb breadcrumbs headerlink header-anchor hash-link "
    "theme-edit-this-page theme-doc-footer edit-this-page srclink viewcode-link viewcode-back "
    "test-arrow hideme out-of-band rightside sphinxsidebar related navbox nav-panel source-link "
    "md-source-file md-content__button md-tags wy-breadcrumbs rst-footer-buttons rst-versions "
    "headertitle-nav view-source-button view-source-toggle-button view-source-toggle-state "
    "copybtn bd-toc copiable-link node permalink nav-path memlabels search-results feedback "
    "improve-doc contribution sidetoc tsd-page-toolbar sl-anchor-link"
)
_NAVIGATION_IDS = word_set(
    "toc table-of-contents copy-path banner footer searchbox indices-and-tables search "
    "synthetic-implementations synthetic-implementations-list blanket-implementations "
    "blanket-implementations-list"
)
"""The last four are sections that rustdoc writes on every page, the same on each."""
_CONTENT_ASIDES = re.compile(
    r"admonition|note|warning|tip|caution|danger|important|alert|sidebar|callout"
)
_HAS_TEXT: Any = etree.XPath("boolean(normalize-space(.))")


def find_manual_container(root: Element, source: str, generator: str) -> Element | None:
    """Find the element that holds a manual's text; None for a page of no known generator.

    Args:
        root: The page's tree.
        source: The HTML that it was parsed from.
        generator: Content of its ``generator`` meta element; empty for none.
    """
    lowered = generator.lower()
    for definition in _GENERATORS:
        is_named = any(name in lowered for name in definition.names)
        if is_named or any(mark in source and sign(root) for mark, sign in definition.signs):
            for container in definition.containers:
                element = _single_outermost(container(root))
                if element is not None and _HAS_TEXT(element):
                    return element
    return None


def drop_manual_navigation(container: Element) -> None:
    """Drop navigation from a manual's container."""
    for element in list(container.iter(etree.Element)):
        if element is not container and _is_navigation(element) and is_inside(element, container):
            drop_element(element)


def _single_outermost(elements: list[Element]) -> Element | None:
    """The only element that is inside no other of them; None for none or several."""
    inside = set(elements)
    outer = [e for e in elements if not any(a in inside for a in e.iterancestors())]
    return outer[0] if len(outer) == 1 else None


def _is_navigation(element: Element) -> bool:
    names = class_names(element)
    if element.tag in _NAVIGATION_TAGS:
        return not any(outer.tag in ("pre", "code") for outer in element.iterancestors())
    if element.tag == "aside":
        return not any(_CONTENT_ASIDES.search(name) for name in names)
    if element.tag == "a" and ("src" in names or element.text_content().strip() in ("¶", "§")):
        return True
    if element.tag == "span" and "lang" in names and element.getnext() is not None:
        return bool(
            element.getnext().tag == "pre"
        )  # VitePress' name of the language, over the code
    if element.get("role") in ("navigation", "search", "doc-toc"):
        return True
    if "contents" in names and "topic" in names:  # docutils' contents of one page
        return True
    is_marked = names & _NAVIGATION_CLASSES or (element.get("id") or "").lower() in _NAVIGATION_IDS
    return bool(is_marked) and element.tag not in _CONTENT_TAGS
