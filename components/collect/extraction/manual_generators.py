"""Pages of documentation generators: the container that each writes its text into.

A generator marks its text the same way on every page, so that nothing has to be weighed: the
container is taken whole, less the links around it. Marks that others use for anything (``main``,
``articleBody``) are no sign of a manual.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from lxml import etree

from components.collect.extraction.tree.block_structure import HEADINGS
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import class_names, drop, is_inside, word_set


class _Generator(NamedTuple):
    """How one generator is known, and where its text stands."""

    names: tuple[str, ...]
    """In the page's ``generator``, in lower case."""
    signs: tuple[tuple[str, Any], ...]
    """(what its pages' source holds, which is cheap to look for; where the tree has it)."""
    containers: tuple[Any, ...]


def _has(name: str) -> str:
    return f'contains(concat(" ", normalize-space(@class), " "), " {name} ")'


def _generator(names: str, signs: dict[str, str], *containers: str) -> _Generator:
    compiled = tuple((mark, etree.XPath(f"boolean({path})")) for mark, path in signs.items())
    return _Generator(tuple(names.split()), compiled, tuple(map(etree.XPath, containers)))


_MATERIAL = f"//article[{_has('md-content__inner')}]"
_VITEPRESS = f"//*[{_has('vp-doc')}]"
_GENERATORS = (
    _generator(
        "sphinx docutils",
        {
            "sphinxsidebar": f"//div[{_has('sphinxsidebar')}]",
            "documentation_options": "//script[contains(@src, 'documentation_options.js') or "
            "@id='documentation_options']",
            "_static/doctools.js": "//script[contains(@src, '_static/doctools.js')]",
        },
        '//article[@id="furo-main-content"]',
        f"//article[{_has('bd-article')}]",
        '//*[@itemprop="articleBody"]',
        '//div[@role="main"]',
        '//*[@role="main"]',
        f"//div[{_has('body')}]",
        f"//body/div[{_has('document')}] | //body/main",
    ),
    _generator("docbook publican", {"navheader": f"//div[{_has('navheader')}]"}, "//body"),
    _generator(
        "mdbook",
        {"menu-bar": "//div[starts-with(@id, 'menu-bar') or @id='mdbook-menu-bar']"},
        "//div[@id='content' or @id='mdbook-content']//main",
    ),
    _generator("rustdoc", {}, '//*[@id="main-content"]', "//main"),
    _generator("", {"md-content__inner": _MATERIAL}, _MATERIAL),
    _generator("mkdocs", {}, '//*[@itemprop="articleBody"]', '//*[@role="main"]'),
    _generator(
        "docusaurus",
        {"__docusaurus": "//div[@id='__docusaurus']"},
        f"//*[{_has('theme-doc-markdown')}]",
    ),
    _generator("vitepress", {"vp-doc": _VITEPRESS}, _VITEPRESS),
    _generator("pdoc", {}, f"//main[{_has('pdoc')}]", "//main"),
    _generator("javadoc", {}, "//main", f"//div[{_has('contentContainer')}]"),
    _generator("doxygen", {}, '//div[@id="doc-content"]', f"//div[{_has('contents')}]"),
    _generator("makeinfo texi2any", {}, "//body"),
    _generator("antora", {}, f"//article[{_has('doc')}]"),
    _generator("asciidoctor", {}, "//body"),
    _generator("starlight", {}, f"//div[{_has('sl-markdown-content')}]"),
    _generator("typedoc", {}, f"//div[{_has('col-content')}]"),
    _generator("docfx", {}, '//article[@id="_content"]', "//article"),
)
_NEVER = ("nav", "footer", "button", "form")
_ALWAYS_KEPT = frozenset({"body", "code", "main", "pre", "section", "table", *HEADINGS})
_LEFT_OUT = word_set(
    "navheader navfooter docnav prevnext prev-next-footer pagination pagination-nav nav-chapters "
    "toc table-of-contents tocwrapper breadcrumb breadcrumbs headerlink header-anchor hash-link "
    "theme-edit-this-page theme-doc-footer edit-this-page srclink viewcode-link viewcode-back "
    "test-arrow hideme out-of-band rightside sphinxsidebar related navbox nav-panel source-link "
    "md-source-file md-content__button md-tags wy-breadcrumbs rst-footer-buttons rst-versions "
    "headertitle-nav view-source-button view-source-toggle-button view-source-toggle-state "
    "copybtn bd-toc copiable-link node permalink nav-path memlabels search-results feedback "
    "improve-doc contribution sidetoc tsd-page-toolbar sl-anchor-link"
)
_LEFT_OUT_IDS = word_set(
    "toc table-of-contents copy-path banner footer searchbox indices-and-tables search "
    "synthetic-implementations synthetic-implementations-list blanket-implementations "
    "blanket-implementations-list"
)
"""The last four are what the compiler writes on every page of rustdoc, the same on each."""
_KEPT_ASIDES = re.compile(
    r"admonition|note|warning|tip|caution|danger|important|alert|sidebar|callout"
)
_HAS_TEXT: Any = etree.XPath("boolean(normalize-space(.))")


def find_manual(root: Element, source: str, generator: str) -> Element | None:
    """The element that holds a manual's text; None where no generator is known by the page.

    Args:
        root: The page's tree.
        source: The page it was read from.
        generator: What its ``meta`` of that name says; empty for nothing.
    """
    named = generator.lower()
    for known in _GENERATORS:
        is_named = any(name in named for name in known.names)
        if is_named or any(mark in source and sign(root) for mark, sign in known.signs):
            for container in known.containers:
                element = _outermost(container(root))
                if element is not None and _HAS_TEXT(element):
                    return element
    return None


def leave_out_links(container: Element) -> None:
    """Take out of a manual's container what leads to other pages and is no text."""
    for element in list(container.iter(etree.Element)):
        if element is not container and _is_left_out(element) and is_inside(element, container):
            drop(element)


def _outermost(elements: list[Element]) -> Element | None:
    """The only one that stands in no other; None for none or several."""
    inside = set(elements)
    outer = [e for e in elements if not any(a in inside for a in e.iterancestors())]
    return outer[0] if len(outer) == 1 else None


def _is_left_out(element: Element) -> bool:
    names = class_names(element)
    if element.tag in _NEVER:
        return not any(outer.tag in ("pre", "code") for outer in element.iterancestors())
    if element.tag == "aside":
        return not any(_KEPT_ASIDES.search(name) for name in names)
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
    is_marked = names & _LEFT_OUT or (element.get("id") or "").lower() in _LEFT_OUT_IDS
    return bool(is_marked) and element.tag not in _ALWAYS_KEPT
