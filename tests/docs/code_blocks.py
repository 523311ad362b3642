"""Code blocks of the README and the docs, each with its page, line and language.

A block that cannot run here has a comment ``<!-- not run: REASON -->`` on the line above it, where
whoever reads the page finds the reason.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n)?(?P<fence>`{3,})(?P<language>\S*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
COMMENT = re.compile(r"(^|\s+)#( .*)?$")
"""A comment of a shell line: ``#`` and a blank, outside of what the pages quote."""


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None
    """Reason why it cannot run here."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Words of each shell command, without comments, environment and continuation."""
        joined = self.text.replace("\\\n", " ")
        pending = ""
        for line in joined.splitlines():
            pending = f"{pending}\n{line}" if pending else COMMENT.sub("", line)
            if not pending.strip():
                pending = ""
                continue
            try:
                words = shlex.split(pending)
            except ValueError:  # a quotation goes on in the next line
                continue
            pending = ""
            yield words


def pages() -> list[Path]:
    """All Markdown files that a reader of the project opens."""
    folders = ("docs", "examples", "infra/decisions")
    below = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.md"))]
    return [*sorted(ROOT.glob("*.md")), *below]


def code_blocks(*languages: str) -> list[CodeBlock]:
    """Blocks of all pages, of the given languages or all.

    Args:
        languages: Info strings; none for every block.
    """
    blocks = [block for path in pages() for block in _blocks(path)]
    return [block for block in blocks if not languages or block.language in languages]


def _blocks(path: Path) -> Iterator[CodeBlock]:
    text = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield CodeBlock(
            page=str(path.relative_to(ROOT)),
            line=text.count("\n", 0, match.start("fence")) + 1,
            language=match["language"],
            text=match["text"],
            not_run=match["reason"],
        )
