"""Restoration of code blocks: without line numbers and buttons, line by line, with their language.

Highlighters split a block of code: a table with a column of numbers (Pygments, Rouge, Chroma,
GitHub, highlight.js), an element a line (Shiki, Prism, Docusaurus, Doxygen), a ``code`` a line.
Each becomes one ``pre`` again.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import (
    class_names,
    drop_element,
    is_inside,
    replace_with_code,
    word_set,
)

_LANGUAGE_CLASS = re.compile(
    r"(?:^|[\s;])(?:mw-highlight-lang-|language[-:]|lang[-:]|highlight-source-|source-|src-|"
    r"highlight-|brush:\s*|sourcecode\s+|hljs\s+|programlisting\s+|hl-|sh_)"
    r"(?!language-|lang-|hljs)([a-z0-9+#_.-]+)"
)
"""Class names by which highlighters state a language."""
_NO_LANGUAGE = word_set(
    "code default hljs language-none line-numbers literal-block nohighlight none notranslate "
    "plain plaintext text wrap wrapper copy example"
)
_LANGUAGE_KEYS = ("data-lang", "data-language", "data-enlighter-language", "data-code-lang")
_ALIASES = {"py": "python", "python3": "python", "py3": "python", "ipython3": "python"}
_BARE_LANGUAGES = word_set(
    "bash c clojure cpp csharp css diff elixir erlang fortran go haskell html ini java javascript "
    "js json julia kotlin lua makefile matlab ocaml perl php powershell python r ruby rust scala "
    "sh shell sql swift toml typescript xml yaml"
)
"""Languages that a ``pre`` states by their bare name as a class (MediaWiki's GeSHi, rustdoc)."""
_LINE_NUMBER_CLASS = re.compile(
    r"linenos?\b|lineno\b|linenodiv|line-?numbers?(?:-rows)?\b|gutter|blob-num|hljs-ln-n|"
    r"(?:^|\s)ln(?:t|-num)?(?:\s|$)|crayon-nums"
)
_CODE_CELL = re.compile(
    r"blob-code|js-file-line|code-line|hljs-ln-code|rouge-code|crayon-code|lntd|(?:^|\s)code(?:\s|$)"
)
_LINE_CLASS = re.compile(
    r"(?:^|\s)(?:(?:hljs-ln-|token-|view-|code-|cm-|codemirror-)?line)(?:\s|$)"
)
_LINE_TAGS = ("div", "p", "li", "tr")
_UNWANTED: Any = etree.XPath(
    './/button | .//*[contains(@class, "test-arrow") or contains(@class, "copy-btn") or '
    'contains(@class, "headerlink") or contains(@class, "copybtn")] | .//style | .//script'
)


def restore_code(root: Element) -> None:
    """Turn every block of code under ``root`` into one ``pre`` with one ``code``."""
    for script in list(root.iter("script")):
        if script.get("type") == "syntaxhighlighter":
            text = (script.text or "").strip().removeprefix("<![CDATA[").removesuffix("]]>")
            replace_with_code(script, text, language_of(script))
    for element in list(root.iter("xmp", "listing", "plaintext")):
        element.tag = "pre"
    for table in list(root.iter("table")):
        if is_inside(table, root):
            _restore_code_table(table)
    for block in list(root.iter("div", "code")):
        if is_inside(block, root) and _is_bare_block(block):
            replace_with_code(block, _code_text(block), language_of(block))
    for pre in list(root.iter("pre")):
        if is_inside(pre, root):
            _restore_pre(pre)


def language_of(block: Element) -> str:
    """Language that the classes on, in and around a block of code state; empty for none."""
    for element in [*block.iter("code"), block, *list(block.iterancestors())[:3]]:
        if element.tag in ("body", "main", "article", "section"):
            break
        for key in _LANGUAGE_KEYS:
            language = (element.get(key) or "").strip().lower()
            if re.fullmatch(r"[a-z0-9+#_.-]+", language) and language not in _NO_LANGUAGE:
                return _ALIASES.get(language, language)
        brush = element.get("data-syntaxhighlighter-params") or ""
        names = f"{element.get('class') or ''} {brush}".lower()
        for stated_name in _LANGUAGE_CLASS.findall(names):
            language = str(stated_name).rstrip(";.")
            if language and language not in _NO_LANGUAGE:
                return _ALIASES.get(language, language)
        bare = [name for name in (*names.split(), element.get("lang")) if name in _BARE_LANGUAGES]
        if bare and (element.tag in ("pre", "code") or "src" in names.split()):
            return str(bare[0])
    return ""


def _restore_code_table(table: Element) -> None:
    """Turn a table of line numbers beside lines of code into a code block."""
    cells = [cell for cell in table.iter("td") if _CODE_CELL.search(cell.get("class") or "")]
    if not cells:
        return
    numbered = any(
        _LINE_NUMBER_CLASS.search((e.get("class") or "").lower())
        for e in table.iter("td", "pre", "span")
    )
    if not numbered or (len(cells) < 2 and next(cells[0].iter("pre", "div"), None) is None):
        return
    lines = [_code_text(cell) for cell in cells if not _is_line_number_cell(cell)]
    outer = table.getparent()
    while outer is not None and outer.tag == "code":
        outer = outer.getparent()
    target = outer if outer is not None and outer.tag == "pre" else table
    replace_with_code(target, "\n".join(lines), language_of(table))


def _is_line_number_cell(cell: Element) -> bool:
    is_number = re.fullmatch(r"[\s\d]*", cell.text_content()) is not None
    return is_number and any(map(_holds_line_numbers, cell.iter()))


def _holds_line_numbers(element: Element) -> bool:
    return _LINE_NUMBER_CLASS.search((element.get("class") or "").lower()) is not None


def _is_bare_block(block: Element) -> bool:
    """True for code without a ``pre`` around it: Doxygen's fragments, a ``code`` with breaks."""
    if block.tag == "div":
        has_lines = "fragment" in class_names(block) and any(
            _LINE_CLASS.search(child.get("class") or "") for child in block
        )
    else:
        breaks = sum(1 for _ in block.iter("br"))
        has_lines = breaks >= 2 or next(block.iter("div", "p"), None) is not None
    return (
        has_lines
        and next(block.iter("pre"), None) is None
        and not any(outer.tag == "pre" for outer in block.iterancestors())
    )


def _restore_pre(pre: Element) -> None:
    language = language_of(pre)
    text = _code_text(pre)
    in_cell = any(outer.tag in ("td", "th") for outer in pre.iterancestors())
    if in_cell and "\n" not in text and pre.tag == "pre":
        tail = pre.tail
        pre.clear()
        pre.tag, pre.text, pre.tail = "code", text, tail
    else:
        replace_with_code(pre, text, language)


def _code_text(block: Element) -> str:
    """Text of a block as displayed: one line an element, no line numbers, no buttons."""
    for unwanted in _UNWANTED(block):
        if unwanted is not block and is_inside(unwanted, block):
            drop_element(unwanted)
    for numbers in list(block.iter()):
        if (
            numbers is not block
            and isinstance(numbers.tag, str)
            and is_inside(numbers, block)
            and _holds_line_numbers(numbers)
            and next(numbers.iter("code"), None) is None
        ):
            drop_element(numbers)
    for line_break in block.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")
    for line in reversed(_line_elements(block)):  # an inner one first: it ends the outer one too
        following = line.tail or ""
        if not line.text_content().endswith("\n") and not following.startswith("\n"):
            line.tail = "\n" + following
    return str(block.text_content()).replace("\r\n", "\n").replace("\xa0", " ").strip("\n")


def _line_elements(block: Element) -> list[Element]:
    """Elements that hold one line each: by their tag, by their class, or a ``code`` a line."""
    lines = [
        element
        for element in block.iterdescendants()
        if isinstance(element.tag, str)
        and (element.tag in _LINE_TAGS or _LINE_CLASS.search((element.get("class") or "").lower()))
        and not any(True for _ in element.iterdescendants(*_LINE_TAGS))
    ]
    codes = block.findall("code")
    loose = [block.text, *(code.tail for code in codes)]
    if len(codes) > 1 and len(codes) == len(block) and not any((t or "").strip() for t in loose):
        lines += codes
    return lines
