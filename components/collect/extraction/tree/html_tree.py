"""Parser of HTML and XHTML into lxml trees of one kind, bounded in attributes and in depth.

lxml's parser repairs broken pages, and walking its tree is fast. A page that declares itself XML is
parsed by the XML parser, which alone knows CDATA, prefixes and self-closing elements; where it is
not well-formed it is parsed as HTML after all, as browsers do with pages served as HTML.
"""

from __future__ import annotations

import html
import re
from html.entities import name2codepoint
from typing import Any

from lxml import etree
from lxml import html as lxml_html

Element = Any
"""An lxml element. ``tag`` is a string for elements alone, not for comments."""
MAX_ATTRIBUTES = 5_000
"""Attributes of one element, at most: libxml2 compares each with all before it, and 300,000 take
minutes."""
MAX_DEPTH = 900
"""Nested elements, at most: html-to-markdown reads 1,024 levels and silently omits the rest."""
_FLAT_DEPTH = 200
"""Depth from which elements that only style text are unwrapped."""
_LOST_DEPTH = 2_040
"""libxml2 silently drops elements deeper than 2,048."""
_OPEN_FONTS = 50
"""Unclosed ``<font>`` tags from which all are removed: each nests the rest of the page deeper."""
_DRESS_TAGS = ("font", "span", "b", "i", "u", "em", "strong", "big", "small", "tt", "center", "a")
_ATTRIBUTE = (
    r"[\s/]*+=?+[^\s/>=]++(?:\s*+=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^\s>\"'][^\s>]*+)?+)?+"
)
_START_TAG = re.compile(
    r"<!--(?:[^-]++|-(?!->))*+|"
    rf"<(?:(script|style|textarea|title|xmp)(?=[\s/>])|[a-z][^\s/>]*+)((?:{_ATTRIBUTE})*+)"
    r"(?(1)(?:[\s/]*+>(?:[^<]++|<(?!/\1))*+)?+)",
    re.IGNORECASE,
)
"""A comment; or a start tag with its attributes, and with its content where that is no markup."""
_ONE_ATTRIBUTE = re.compile(_ATTRIBUTE)
_CLASSES = etree.ElementDefaultClassLookup(element=lxml_html.HtmlElement)
"""One class for all elements: the lookup of lxml.html runs Python code for each of them."""
_TEXT_SCRIPTS = ("application/ld+json", "math/tex", "math/mml", "syntaxhighlighter")
_XML_DECLARATION = re.compile(r"\s*<\?xml\b[^<>]{0,500}\?>")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_OPEN_ENTITY = re.compile(r"&([A-Za-z]{2,8}[0-9]{0,2})(?![A-Za-z0-9;=])")
"""A named character without its semicolon; not in an address's ``?a=1&copy=2``."""
_NO_CHARACTER = re.compile(
    "&#(?:0*(?:[1-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[1-8b-cB-CeEfF]|1[0-9a-fA-F]|[fF]{3}[eEfF]))"
    "(?:;|(?![0-9a-fA-F]))"
)
"""References to control characters and Unicode noncharacters, which no tree can hold."""
_FORM_FEED, _CONTROLS = b"\x0c", bytes([*range(9), 11, *range(14, 32)])
_NO_UTF8 = re.compile(b"\xef\xb7[\x90-\xaf]|\xef\xbf[\xbe\xbf]")
"""Unicode's noncharacters of the first plane."""
_XML_ENTITIES = frozenset({"amp", "apos", "gt", "lt", "quot"})
_IS_DEEP: Any = etree.XPath("boolean(" + "/*" * _FLAT_DEPTH + ")")
_IS_TOO_DEEP: Any = etree.XPath("boolean(" + "/*" * MAX_DEPTH + ")")
_IS_CUT: Any = etree.XPath("boolean(" + "/*" * _LOST_DEPTH + ")")
_FONT = re.compile(r"</?font\b[^<>]*+>", re.IGNORECASE)


def parse_html(text: str, *, is_xhtml: bool = False) -> Element | None:
    """Parse a page into its root element; None where there is nothing at all.

    Args:
        text: The page.
        is_xhtml: True for an XML media type; an XML declaration has the same effect.

    Raises:
        ValueError: An element has more than ``MAX_ATTRIBUTES``, or elements stand in one another
            deeper than ``MAX_DEPTH``.
    """
    check_attribute_count(text)
    if "&#" in text:
        text = _NO_CHARACTER.sub("", text.replace("&#12;", " "))
    declaration = _XML_DECLARATION.match(text)
    root = None
    if is_xhtml or declaration:
        root = _parse_xml(text[declaration.end() :] if declaration else text)
    if root is None:
        fonts = [tag[1] for tag in _FONT.findall(text)]
        is_open = len(fonts) - 2 * fonts.count("/") > _OPEN_FONTS
        text = _OPEN_ENTITY.sub(_html4_character, _FONT.sub("", text) if is_open else text)
        root = _parse_html(text)
    if root is not None and _IS_DEEP(root):
        if _IS_CUT(root):
            raise ValueError("nested too deeply")
        _flatten(root)
        if _IS_TOO_DEEP(root):
            raise ValueError("nested too deeply")
    return root


def check_attribute_count(text: str) -> None:
    """Check the number of attributes of every element.

    Raises:
        ValueError: An element has more than ``MAX_ATTRIBUTES``.
    """
    for tag in _START_TAG.finditer(text):
        begin, end = tag.span(2)
        # An attribute is two characters at least, its blank included.
        if end - begin > 2 * MAX_ATTRIBUTES:
            count = sum(1 for _ in _ONE_ATTRIBUTE.finditer(text, begin, end))
            if count > MAX_ATTRIBUTES:
                raise ValueError(f"an element with more than {MAX_ATTRIBUTES} attributes")


def drop_scripts(root: Element) -> None:
    """Drop scripts, styles and SVG drawings, which hold no text.

    Scripts that hold text (structured data, formulas, code) stay. Extraction walks the tree many
    times, and in half of today's pages scripts and styles are most of it.
    """
    for element in list(root.iter("script", "style", "svg")):
        kind = element.get("type") or ""
        if element.tag == "script" and element.get("src"):
            continue  # it is empty, and may identify a documentation generator
        if element.tag != "script" or not kind.startswith(_TEXT_SCRIPTS):
            element.drop_tree()


def _encode_for_tree(text: str) -> bytes:
    """Encode ``text`` in UTF-8, without characters that no tree can hold."""
    raw = text.encode("utf-8", "replace").replace(_FORM_FEED, b" ").translate(None, _CONTROLS)
    return _NO_UTF8.sub(b"", raw)


def _parse_html(text: str) -> Element | None:
    # Without `huge_tree`, elements deeper than 256 would be lost silently.
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    parser.set_element_class_lookup(_CLASSES)
    try:
        return etree.fromstring(_encode_for_tree(text), parser=parser)
    except (etree.LxmlError, ValueError):
        return None


def _parse_xml(text: str) -> Element | None:
    """Root with tags of no namespace; None where the text is no XML with ``html`` as root."""
    if "<!ENTITY" in text:  # nested entities may expand exponentially
        return None
    parser = etree.XMLParser(
        encoding="utf-8",
        remove_comments=True,
        remove_pis=True,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
    )
    parser.set_element_class_lookup(_CLASSES)
    try:
        root = etree.fromstring(_encode_for_tree(_ENTITY.sub(_html_character, text)), parser)
    except (etree.LxmlError, ValueError):
        return None
    for element in root.iter(etree.Element):
        element.tag = etree.QName(element).localname.lower()
    return root if root.tag == "html" else None


def _html_character(entity: re.Match[str]) -> str:
    """Character of an HTML entity, which XML knows only from a DTD, and none is fetched."""
    return entity[0] if entity[1] in _XML_ENTITIES else html.unescape(entity[0])


def _html4_character(entity: re.Match[str]) -> str:
    code = name2codepoint.get(entity[1]) if entity[1] not in _XML_ENTITIES else None
    return chr(code) if code is not None else entity[0]


def _flatten(root: Element) -> None:
    """Unwrap styling elements, and lift paragraphs out of unclosed paragraphs before them."""
    etree.strip_tags(root, *_DRESS_TAGS)
    for paragraph in list(root.iter("p")):
        parent = paragraph.getparent()
        if parent is not None and parent.tag == "p":
            rest = paragraph.tail
            paragraph.tail = None
            parent.addnext(paragraph)
            if rest and rest.strip():
                paragraph.tail = rest
