"""Reads files as a run does, for tests: pages in order, and the reason of every other line."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.files.collect_files import collect_files
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import WebPage


@dataclass
class Reading:
    """Outcome of reading a folder."""

    pages: list[WebPage]
    ledger: dict[str, LedgerEntry]

    @property
    def texts(self) -> dict[str, str]:
        """Text by address."""
        return {page.url: page.body.decode(errors="replace") for page in self.pages}

    @property
    def reasons(self) -> dict[str, str]:
        """Reason by address, of lines that are no pages."""
        return {entry.url: entry.reason for entry in self.ledger.values() if entry.reason}

    @property
    def failed(self) -> set[str]:
        """Addresses that should have given a page."""
        return {entry.url for entry in self.ledger.values() if entry.failed}


def read_folder(folder: Path, pattern: str = "**/*", **fields: Any) -> Reading:
    """Read the files of a folder that match a pattern."""
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    ledger: dict[str, LedgerEntry] = {}
    config = ScrapeConfig(files=[pattern], folder=str(folder), **fields)
    pages = list(collect_files(config, scratch, "modelmill", ledger))
    assert not list(scratch.iterdir()), "a temporary file was left behind"
    assert {page.url for page in pages} == {u for u, entry in ledger.items() if not entry.reason}
    return Reading(pages, ledger)


def read_rows(tmp_path: Path, *rows: Any, **fields: Any) -> Reading:
    """Read JSON lines: each row an object, or the bytes of its line."""
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return read_folder(folder, "a.jsonl", **fields)


def read_bytes(tmp_path: Path, name: str, content: bytes | str, **fields: Any) -> Reading:
    """Read one file of the folder ``in``."""
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_folder(folder, name, **fields)


def zip_bytes(members: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return archive.getvalue()
