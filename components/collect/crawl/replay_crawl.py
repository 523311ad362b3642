"""An earlier crawl once more, under a longer blocklist or another policy of opt-outs.

Nobody is asked again for what is there: records are copied as they are, so that all that is made
from the pages differs by those that were judged otherwise, and by nothing where there are none.
The ledger holds what each page's owner said, so a page is judged again without being looked at.
Only a page that was left out for what its owner said, and that may now come, is *due*: it was not
kept, and perhaps never fetched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import ArchiveIterator

from components.collect.crawl.fetch_ledger import BLOCKED, LEDGER_FILE, Entry, write_rows
from components.collect.optouts.optout_policy import OPTED_OUT, OptoutConfig, Signal, refusal
from components.collect.optouts.site_signals import ROBOTS
from components.collect.warc.cdxj_index import write_index
from components.collect.warc.page_shards import COMPRESSION, WebPage, write_page
from components.collect.web.page_licences import licence_verdict
from components.core.config.blocklist import Blocklist
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path
from components.core.store.artifact import MANIFEST, Pages
from components.core.store.document_rows import shard_of
from components.core.store.shards import read_shard

Row = dict[str, Any]


class EarlierCrawl:
    """A sealed crawl as it is judged now: ``rows`` of its ledger that stay, and what is ``due``."""

    def __init__(self, folder: Path, blocklist: Blocklist, optouts: OptoutConfig) -> None:
        """Raises DataError: the crawl is gone."""
        self._folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            assert manifest["format"] == Pages.format
            self._stats: dict[str, float] = manifest["artifact"]["stats"]
            before = [_whole(row) for row in read_shard(folder / LEDGER_FILE).to_pylist()]
        except (OSError, ValueError, KeyError, AssertionError, DataError) as error:
            raise DataError(
                f"scrape.repeats: crawl {folder.name[:12]}, which was to be taken once more, "
                "is gone or damaged; crawl again with --refresh"
            ) from error
        self._kept = {row["url"] for row in before if not row["reason"]}
        judged = {row["url"]: _judged(row, blocklist, optouts) for row in before}
        self.due = {
            row["url"]: int(row["depth"])
            for row in before
            if row["reason"].startswith(OPTED_OUT) and not judged[row["url"]]["reason"]
        }
        """Address -> links from a seed."""
        self.rows = {url: row for url, row in judged.items() if url not in self.due}

    def entries(self) -> dict[str, Entry]:
        """``rows`` as a crawl's ledger holds them."""
        return {
            url: Entry(
                url,
                row["status"],
                row["reason"],
                row["bytes"],
                row["digest"],
                canonical=row["canonical"],
                depth=row["depth"],
            )
            for url, row in self.rows.items()
        }

    def write(
        self,
        target: Path,
        ledger: Mapping[str, Entry],
        date: str,
        pages: Callable[[list[str]], Iterable[WebPage]],
    ) -> dict[str, float]:
        """Write the crawl to ``target``; its stats.

        ``ledger`` says what became of every address, ``pages`` gives those that are new by their
        addresses, and ``date`` is their moment.

        Raises:
            DataError: nothing of it may stay.
        """
        rows = {url: self._row(url, entry, date) for url, entry in ledger.items()}
        kept = [row for row in rows.values() if not row["reason"]]
        if not kept:
            some = next(iter(rows.values()))
            why = "is on the blocklist" if some["reason"] == BLOCKED else "is left out"
            raise DataError(
                f"scrape: every page of the crawl {why}: {some['url']}: {some['reason']}"
            )
        out = {url for url in self._kept if rows[url]["reason"]}
        added = sorted(row["url"] for row in kept if row["url"] not in self._kept)
        archives = sorted(self._folder.glob("*.warc.gz"))
        for index, archive in enumerate(archives):
            mine = [url for url in added if shard_of(url, len(archives)) == index]
            _copy_archive(archive, target / archive.name, out, pages(mine), date)
        write_rows(target, rows)
        write_index(target)
        failed = self._stats.get("failed", 0.0) + sum(
            entry.failed and bool(entry.reason) for entry in ledger.values()
        )
        return {
            "pages": float(len(kept)),
            "bytes": float(sum(row["bytes"] for row in kept)),
            "failed": failed,
            "left_out": float(len(rows) - len(kept)) - failed,
            "opted_out": float(sum(r["reason"].startswith(OPTED_OUT) for r in rows.values())),
            "unchanged": float(sum(row["change"] == "same" for row in rows.values())),
            "gone": float(sum(row["change"] == "gone" for row in rows.values())),
            "kept": float(sum(row["change"] == "kept" for row in rows.values())),
        }

    def _row(self, url: str, entry: Entry, date: str) -> Row:
        if url not in self.rows:
            return entry.row(date)
        row = self.rows[url]
        return row if row["reason"] == entry.reason else {**row, **_left_out(entry.reason)}


def _whole(row: Row) -> Row:
    """A ledger's row with all fields that ledgers have by now."""
    return {**Entry(row["url"]).row(""), **row}


def _left_out(reason: str) -> Row:
    return {"reason": reason, "change": ""}


def _judged(row: Row, blocklist: Blocklist, optouts: OptoutConfig) -> Row:
    """A ledger's row as a crawl under these rules enters it."""
    if blocklist.covers(row["url"]):
        return Entry(row["url"], reason=BLOCKED).row("")
    row = {**row, "optouts": [_weighed(signal, optouts) for signal in row["optouts"]]}
    if row["reason"] and not row["reason"].startswith(OPTED_OUT):
        return row
    reason = ""
    if optouts.policy == "honour":
        fields = Signal.__dataclass_fields__
        reason = refusal([Signal(**{name: s[name] for name in fields}) for s in row["optouts"]])
    return {**row, **_left_out(reason)} if reason else {**row, "reason": ""}


def _weighed(signal: Row, optouts: OptoutConfig) -> Row:
    """Licences that a page names are a no where the rules of now say so; a site's are noted."""
    if signal["kind"] != "licence" or signal["source"].endswith(ROBOTS):
        return signal
    return {**signal, "verdict": licence_verdict(signal["value"], optouts.refused_licences)}


def _copy_archive(
    source: Path, target: Path, out: set[str], added: Iterable[WebPage], date: str
) -> None:
    """Every record but those of ``out``, byte by byte where there is none of them; new pages."""
    with atomic_path(target) as temporary:
        if not out & _addresses(source):
            shutil.copyfile(source, temporary)
        else:
            with (
                source.open("rb") as stream,
                temporary.open("wb") as file,
                GzipWriter(file, compression_level=COMPRESSION) as writer,
            ):
                for record in ArchiveIterator(stream, parse_http=False):
                    if record.headers.get("WARC-Target-URI") not in out:
                        record.write(writer)
                        writer.finish()  # each record a gzip member of its own
        for page in added:
            with (
                temporary.open("ab") as file,
                GzipWriter(file, compression_level=COMPRESSION) as writer,
            ):
                write_page(page, date, writer)


def _addresses(archive: Path) -> set[str]:
    with archive.open("rb") as stream:
        records = ArchiveIterator(stream, parse_http=False)
        return {record.headers.get("WARC-Target-URI") or "" for record in records}
