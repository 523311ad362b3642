"""Wikitext to Markdown, over mwparserfromhell's tree: prose, headings, lists, code and formulas.

Templates, files, categories, references and tables are left out, as corpora of Wikipedia have it:
without the wiki's own templates they cannot be expanded.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import (
    ExternalLink,
    Heading,
    HTMLEntity,
    Tag,
    Text,
    Wikilink,
)

_LEFT_OUT_TAGS = frozenset(
    {"ref", "references", "gallery", "timeline", "imagemap", "table", "templatestyles", "score",
     "graph", "mapframe", "maplink", "section", "indicator", "style", "script"}
)  # fmt: skip
_CODE_TAGS = frozenset({"syntaxhighlight", "source", "pre"})
_FORMULA_TAGS = frozenset({"math", "chem", "ce"})
_BLOCK_TAGS = frozenset({"p", "div", "br", "blockquote", "center"})
_INTERWIKI = re.compile(r":?[a-z]{2,3}(?:-[a-z-]+)?:|:?(?:simple|d|s|q|b|c|wikt|commons):")
_NAMESPACE = re.compile(r":?[\w -]{2,30}:(?=\S)")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_BLANK_LINES = re.compile(r"\n{3,}")
_LIST_SIGN = "\x04"
"""Stands before each list mark until the lines are known, as a heading begins with one, too."""
_MARKED_LINE = re.compile(r"^((?:\x04[*#:;])+)[ \t]*", re.MULTILINE)
_EMPTY_BRACKETS = re.compile(r" ?\(\s*[,;:]*\s*\)")
_SPACES = re.compile(r"[ \t]{2,}")


def write_wikitext(source: str) -> str:
    """Markdown of a page's wikitext."""
    tree = mwparserfromhell.parse(source, skip_style_tags=False)
    text = _SWITCH.sub("", "".join(_write_nodes(tree.nodes)))
    text, code = _hide_code(text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _MARKED_LINE.sub(_write_list_mark, text).replace(_LIST_SIGN, "")
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    text = _BLANK_LINES.sub("\n\n", _drop_empty_sections(text))
    return _show_code(text, code).strip()


_CODE_MARK = re.compile("\x02(\\d+)\x03")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def _hide_code(text: str) -> tuple[str, list[str]]:
    """Text with a mark in place of each code block, so that tidying leaves them as they are."""
    blocks: list[str] = []

    def hide_block(match: re.Match[str]) -> str:
        blocks.append(match[0])
        return f"\x02{len(blocks) - 1}\x03"

    return _FENCE.sub(hide_block, text), blocks


def _show_code(text: str, blocks: list[str]) -> str:
    return _CODE_MARK.sub(lambda match: blocks[int(match[1])], text)


def _write_nodes(nodes: Iterable[Any]) -> Iterable[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield str(node.value)
        elif isinstance(node, Heading):
            title = "".join(_write_nodes(node.title.nodes)).strip()
            yield f"\n\n{'#' * min(6, node.level)} {title}\n\n"
        elif isinstance(node, Wikilink):
            yield _write_link(node)
        elif isinstance(node, ExternalLink):
            if node.title is not None:
                yield from _write_nodes(node.title.nodes)
            elif not node.brackets:
                yield str(node.url)
        elif isinstance(node, HTMLEntity):
            yield html.unescape(str(node)).replace("\xa0", " ")
        elif isinstance(node, Tag):
            yield from _write_tag(node)
        # Templates, arguments and comments have no text of the page.


def _write_link(link: Any) -> str:
    """Words of a link; none of a file, a category or a page in another language."""
    target = str(link.title).strip()
    if link.text is None:
        if _INTERWIKI.match(target) or (_NAMESPACE.match(target) and not target.startswith(":")):
            return "" if not target.startswith(":") else target.lstrip(":")
        return target.lstrip(":").replace("_", " ")
    words = "".join(_write_nodes(link.text.nodes))
    if _NAMESPACE.match(target) and not target.startswith(":") and _is_file_link(target, words):
        return ""
    return words


def _is_file_link(target: str, words: str) -> bool:
    """True for an image: its caption stands behind its size and place, in any language."""
    return "|" in words or bool(
        re.search(r"\.(?:jpe?g|png|svg|gif|webp|og[gv]|pdf)$", target, re.I)
    )


def _write_tag(node: Any) -> Iterable[str]:
    name = str(node.tag).strip().lower()
    if name in _LEFT_OUT_TAGS:
        return
    if node.wiki_markup in ("*", "#", ":", ";"):
        yield f"{_LIST_SIGN}{node.wiki_markup}"
        return
    if name in _FORMULA_TAGS:
        yield f"${str(node.contents).strip()}$"
    elif name in _CODE_TAGS:
        language = node.get("lang").value if node.has("lang") else ""
        yield f"\n\n```{str(language).strip()}\n{str(node.contents).strip(chr(10))}\n```\n\n"
    elif name == "code":
        yield f"`{''.join(_write_nodes(node.contents.nodes))}`"
    elif name == "nowiki":
        yield str(node.contents)
    elif name == "hr":
        yield "\n\n"
    elif node.contents is not None:
        line_end = "\n" if name in _BLOCK_TAGS else ""
        yield line_end
        yield from _write_nodes(node.contents.nodes)
        yield line_end


def _write_list_mark(match: re.Match[str]) -> str:
    """Mark of a line in a list; a line that is only indented is a paragraph."""
    marks = match[1].replace(_LIST_SIGN, "")
    indent = "  " * (len(marks) - 1)
    if marks[-1] == "*":
        return f"{indent}- "
    if marks[-1] == "#":
        return f"{indent}1. "
    return ""


def _drop_empty_sections(text: str) -> str:
    """Text without headings that nothing follows: what they held was left out."""
    kept: list[str] = []
    for line in reversed(text.split("\n")):
        level = len(line) - len(line.lstrip("#")) if line.startswith("#") else 0
        is_heading = 0 < level <= 6 and line[level : level + 1] == " "
        if is_heading:
            following = next((other for other in reversed(kept) if other.strip()), "")
            next_level = len(following) - len(following.lstrip("#"))
            if not following or (following.startswith("#") and 0 < next_level <= level):
                continue
        kept.append(line)
    return "\n".join(reversed(kept))
