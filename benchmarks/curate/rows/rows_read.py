"""Rows read right, set aside with a reason, and lost, beside pandas and datatrove's readers.

Every reader has its defaults. A row counts as read right where its whole text is found, and as lost
where neither the text nor a line in the ledger speaks of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.rows.row_situations import RowFile, draw_tables, row_text, write_situations
from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.files.collect_files import collect_files
from components.collect.scrape_config import ScrapeConfig

DRAWN_TABLES, SEED = 60, 20261130
"""Files that pandas writes for this run alone; no reader was written on them."""
PEERS = {"pandas": "pandas_rows", "datatrove": "datatrove_rows"}


def measure_rows(setting: BenchSetting) -> list[BenchFigure]:
    """Shares of rows that are read right, and the number that is lost."""
    figures = []
    for name, files in (
        ("situations", write_situations()),
        (f"{DRAWN_TABLES} tables that pandas writes", draw_tables(DRAWN_TABLES, SEED)),
    ):
        folder = setting.scratch / name.replace(" ", "-")
        folder.mkdir()
        for file in files:
            (folder / file.name).write_bytes(file.content)
        figures += _compare_readers(setting, name, files, folder)
    return figures


def _compare_readers(
    setting: BenchSetting, name: str, files: Sequence[RowFile], folder: Path
) -> list[BenchFigure]:
    texts, lines = _read_files(folder, setting.scratch)
    right = _count_right(files, texts)
    rows = sum(len(file.tags) + file.broken for file in files)
    lost = sum(
        max(0, len(file.tags) + file.broken - right[file.name] - lines.get(file.name, 0))
        for file in files
    )
    readable = sum(len(file.tags) for file in files)
    whole = sum(right[file.name] == len(file.tags) for file in files)
    note = f"{sum(right.values())} of {readable} rows; {whole} of {len(files)} files whole"
    figures = [
        BenchFigure.against_target(f"rows: lost, {name}", lost, "", 0, note=f"of {rows} rows"),
    ]
    for peer, program in PEERS.items():
        answer = setting.run_peer(program, peer, str(folder))
        peer_right = _count_right(files, answer) if answer is not None else {}
        peer_whole = sum(peer_right.get(file.name) == len(file.tags) for file in files)
        figures.append(
            BenchFigure.beside_peer(
                f"rows: files read right, {name}",
                whole / len(files),
                "",
                peer,
                peer_whole / len(files) if answer is not None else None,
                True,
                better="higher",
                note=note,
            )
        )
    return figures


def _read_files(folder: Path, scratch: Path) -> tuple[dict[str, list[str]], dict[str, int]]:
    """(texts by file, number of lines with a reason by file) of our reader."""
    ledger: dict[str, LedgerEntry] = {}
    config = ScrapeConfig(files=["*"], folder=str(folder), max_failed_share=1)
    texts: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):  # rows may share an address between files
        alone = config.model_copy(update={"files": [path.name]})
        pages = collect_files(alone, scratch, "modelmill", ledger)
        texts[path.name] = [page.body.decode(errors="replace") for page in pages]
    lines: dict[str, int] = {}
    for entry in ledger.values():
        if entry.reason:
            name = entry.url.partition(f"/{folder.name}/")[2].partition("#")[0].partition("/")[0]
            lines[name] = lines.get(name, 0) + 1
    return texts, lines


def _count_right(files: Sequence[RowFile], texts: dict[str, list[str]]) -> dict[str, int]:
    """Rows by file whose text a reader gave whole."""
    counts = {}
    for file in files:
        given = "\n\n".join(texts.get(file.name, [])).replace("\r\n", "\n")
        counts[file.name] = sum(row_text(tag) in given for tag in file.tags)
    return counts
