"""Restoration of formulas as TeX, each once: MathJax, KaTeX, Wikipedia, MathML, images with TeX.

A page holds a formula up to three times (a preview, MathML for screen readers, glyphs in spans).
The TeX source is taken where the page still has it; else MathML is converted to TeX.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import (
    BACKSLASH_MARK,
    class_test,
    drop_element,
    is_inside,
    replace_with_text,
)

_SCRIPTS: Any = etree.XPath('.//script[starts-with(@type, "math/tex")]')
_CONTAINERS: Any = etree.XPath(
    f".//*[{class_test('katex')} or {class_test('mwe-math-element')} or self::mjx-container] | "
    ".//math"
)
_SOURCES: tuple[Any, ...] = (
    etree.XPath('.//annotation[contains(@encoding, "tex")]'),
    etree.XPath("descendant-or-self::*/@alttext"),
    etree.XPath(".//img/@alt"),
)
_RENDERED: Any = etree.XPath(
    f".//*[{class_test('MathJax_Preview')} or {class_test('MathJax_Display')} or "
    f"{class_test('MathJax')} or {class_test('MathJax_SVG')} or {class_test('MathJax_CHTML')} or "
    f"{class_test('MJX_Assistive_MathML')}]"
)
_HAS_DELIMITERS: Any = etree.XPath(r'boolean(.//text()[contains(., "\(") or contains(., "\[")])')
_STYLED = re.compile(r"\{\\(?:display|text)style\s+(.*)\}", re.DOTALL)
_DELIMITED = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]|\$\$?([^$]*)\$\$?", re.DOTALL)
_INLINE = re.compile(r"\\\(([^\n]{1,2000}?)\\\)")
_DISPLAY = re.compile(r"\\\[(.{1,4000}?)\\\]", re.DOTALL)
_TEX_ADDRESS = re.compile(r"latex|mimetex|/tex\b|\.latex", re.IGNORECASE)
_NAMED_TEX = re.compile(r"latex|\btex\b|math|equation", re.IGNORECASE)


def restore_formulas(root: Element) -> None:
    """Write every formula under ``root`` as ``$…$``, or ``$$…$$`` where it is set apart."""
    scripts = _SCRIPTS(root)
    for script in scripts:
        replace_with_text(script, _delimit(script.text or "", "display" in script.get("type")))
    for image in list(root.iter("img")):
        _restore_image(image)
    if not scripts and next(root.iter("math", "mjx-container"), None) is None:
        return  # what follows walks the page several times
    for container in _CONTAINERS(root):
        if is_inside(container, root):
            _restore_container(container)
    for rendered in _RENDERED(root):
        if is_inside(rendered, root):
            drop_element(rendered)


def restore_delimited(root: Element) -> None:
    r"""Write formulas that stand as ``\(…\)`` and ``\[…\]`` in the text with dollar signs."""
    if not _HAS_DELIMITERS(root):
        return
    code = {e for block in root.iter("pre", "code", "kbd", "samp", "tt") for e in block.iter()}
    for element in root.iter():
        if element not in code:
            element.text = _with_dollars(element.text)
        if element.getparent() not in code:
            element.tail = _with_dollars(element.tail)


def _with_dollars(text: str | None) -> str | None:
    r"""Formulas that stand as ``\(…\)`` and ``\[…\]`` in the text, for a script to find."""
    if not text or "\\" not in text:
        return text
    text = _INLINE.sub(lambda match: _delimit(match[1], False), text)
    return _DISPLAY.sub(lambda match: _delimit(match[1], True), text)


def _restore_container(container: Element) -> None:
    parent = container.getparent()
    names = " ".join(e.get("class") or "" for e in (parent, container) if e is not None)
    maths = [container] if container.tag == "math" else list(container.iter("math"))
    is_apart = (
        "display" in names
        or container.get("display") == "true"
        or any(math.get("display") == "block" for math in maths)
    )
    for source in _SOURCES:
        matches = source(container)
        if matches:
            tex = matches[0] if isinstance(matches[0], str) else "".join(matches[0].itertext())
            styled = _STYLED.fullmatch(tex.strip())
            replace_with_text(container, _delimit(styled[1] if styled else tex, is_apart))
            return
    if maths:
        replace_with_text(container, _delimit(tex_of_mathml(maths[0]), is_apart))


def _restore_image(image: Element) -> None:
    """Replace an image of a formula by the TeX in its ``alt`` or URL, one of a sign by the sign."""
    alt = (image.get("alt") or "").strip()
    class_and_source = f"{image.get('class') or ''} {image.get('src') or ''}"
    delimited = _DELIMITED.fullmatch(alt)
    if delimited:
        replace_with_text(image, _delimit(next(filter(None, delimited.groups()), ""), False))
    elif "\\" in alt and _NAMED_TEX.search(class_and_source):
        replace_with_text(image, _delimit(alt, False))
    elif not alt and "?" in (image.get("src") or "") and _TEX_ADDRESS.search(image.get("src")):
        replace_with_text(image, _delimit(unquote_plus(image.get("src").partition("?")[2]), False))
    elif 0 < len(alt) < 8 and not re.search(r"[\w\s]", alt):  # emoji, of one glyph or several
        replace_with_text(image, alt)


def _delimit(tex: str, is_apart: bool) -> str:
    tex = tex.strip().replace("\\", BACKSLASH_MARK)
    mark = "$$" if is_apart else "$"
    return f"{mark}{tex}{mark}" if tex else ""


_PATTERNS = {
    "mfrac": r"\frac{{{0}}}{{{1}}}",
    "mroot": r"\sqrt[{1}]{{{0}}}",
    "msup": "{0}^{{{1}}}",
    "msub": "{0}_{{{1}}}",
    "msubsup": "{0}_{{{1}}}^{{{2}}}",
    "munder": "{0}_{{{1}}}",
    "mover": "{0}^{{{1}}}",
    "munderover": "{0}_{{{1}}}^{{{2}}}",
}
"""TeX patterns of MathML elements with a fixed number of children."""
_LEFT_OUT = frozenset({"annotation", "annotation-xml", "mphantom", "maligngroup", "malignmark"})


def tex_of_mathml(element: Element) -> str:
    """Convert a MathML element to TeX; letters and signs stay as they are."""
    if not isinstance(element.tag, str) or element.tag in _LEFT_OUT:
        return ""
    name = element.tag
    parts = [tex_of_mathml(child) for child in element if isinstance(child.tag, str)]
    pattern = _PATTERNS.get(name)
    if pattern is not None and len(parts) == len(set(re.findall(r"\{(\d)\}", pattern))):
        return pattern.format(*parts)
    if name == "msqrt":
        return f"\\sqrt{{{''.join(parts)}}}"
    if name == "mtable":
        rows = r" \\ ".join(parts)
        return rf"\begin{{matrix}}{rows}\end{{matrix}}"
    if name in ("mtr", "mlabeledtr"):
        return " & ".join(parts)
    if name == "mfenced":
        inside = (element.get("separators") or ",")[:1].join(parts)
        return f"{element.get('open') or '('}{inside}{element.get('close') or ')'}"
    if name == "mtext":
        words = " ".join((element.text or "").split())
        return rf"\text{{{words}}}" if words else ""
    return "".join(parts) if parts else (element.text or "").strip()
