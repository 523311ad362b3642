"""Pages of the user's files under the blocklist and the owners' opt-outs, with their ledger.

Rows may share an address, as the sections of one page do: each text is a page, and the address's
line counts them all. A row that is no page keeps a line of its own, under its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.collect.crawl.fetch_ledger import BLOCKED_REASON, LedgerEntry
from components.collect.files.converters.conversion_pool import ConversionPool
from components.collect.files.file_source import ReadSettings
from components.collect.files.find_files import digest_files
from components.collect.files.read_files import find_archives, read_file_pages
from components.collect.optouts.archived_signals import read_archived_signals
from components.collect.optouts.optout_policy import denial_reason, resolve_signals
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import WebPage
from components.collect.warc.revisit_records import RevisitResolver
from components.collect.web.page_links import read_page_signals
from components.collect.web.urls import origin_of
from components.core.config.blocklist import Blocklist
from components.core.log import get_logger

log = get_logger(__name__)
_NOT_INSTALLED = "not installed"


def collect_files(
    config: ScrapeConfig, scratch: Path, agent: str, ledger: dict[str, LedgerEntry]
) -> Iterator[WebPage]:
    """Read the pages of all files, each entered into the ledger as it is read.

    Args:
        config: Globs, fields and bounds.
        scratch: Folder for temporary files.
        agent: Product token by which robots rules address us.
        ledger: Filled with an entry for every address.

    Raises:
        DataError: the files are not those of the config.
    """
    digests = config.digests or digest_files(config.files, config.folder)
    blocklist, revisits = Blocklist(config.blocklist), RevisitResolver(scratch)
    archives = find_archives(config.files, scratch, config.folder)
    sites = read_archived_signals(archives, revisits.note_wanted)
    lines = _LedgerLines(ledger)
    with ConversionPool(config.page_seconds) as conversions:
        settings = ReadSettings(
            config.max_bytes,
            min(config.part_bytes, config.max_bytes),
            scratch,
            revisits,
            conversions,
            text_field=config.text_field,
            url_field=config.url_field,
            title_field=config.title_field,
        )
        for place, page in read_file_pages(config.files, digests, settings, config.folder):
            if blocklist.covers(page.url) or blocklist.covers(place):
                ledger[page.url] = LedgerEntry(page.url, reason=BLOCKED_REASON)
                continue
            if isinstance(page, LedgerEntry):
                lines.add_rejection(place, page)
                continue
            entry = LedgerEntry(page.url, 200, "", len(page.body), page.digest, note=page.note)
            site = sites.get(origin_of(page.url)) if sites else None
            site_signals = (
                site.signals_for(page.url, agent, config.optouts.agents) if site is not None else []
            )
            page_signals = read_page_signals(page, config.optouts)
            entry.optouts = resolve_signals([*site_signals, *page_signals])
            if config.optouts.policy == "honour":
                entry.reason = denial_reason(entry.optouts)
            if lines.add_page(place, entry):
                yield page
    lines.report_missing_converters()


@dataclass
class _LedgerLines:
    """Lines of the ledger, one an address; places tell rows of one address apart."""

    ledger: dict[str, LedgerEntry]
    _rejected_places: dict[str, str] = field(default_factory=dict)
    """Place of the rejection that holds an address's line."""
    _digests: dict[str, set[str]] = field(default_factory=dict)
    """Digests of the pages of addresses that several have."""

    def add_rejection(self, place: str, entry: LedgerEntry) -> None:
        """Enter a reason; in an archive, another capture's page or reason outweighs it."""
        if entry.url not in self.ledger:
            self.ledger[entry.url] = entry
            if place != entry.url:
                self._rejected_places[entry.url] = place
        elif place != entry.url:
            self.ledger[place] = replace(entry, url=place)

    def add_page(self, place: str, entry: LedgerEntry) -> bool:
        """Enter a page; True where it is to be written."""
        url = entry.url
        if url in self._rejected_places:
            other = self._rejected_places.pop(url)
            self.ledger[other] = replace(self.ledger.pop(url), url=other)
        earlier = self.ledger.get(url)
        if earlier is None or earlier.reason:
            if entry.reason and place != url:
                self._rejected_places[url] = place
            self.ledger[url] = entry
            return not entry.reason
        if entry.reason:
            if place != url:
                self.ledger[place] = replace(entry, url=place)
            return False
        digests = self._digests.setdefault(url, {earlier.digest})
        if entry.digest in digests:  # the same page twice
            if place != url:
                reason = f"the same text as another row of {url}"
                self.ledger[place] = LedgerEntry(place, reason=reason)
            return False
        digests.add(entry.digest)
        self.ledger[url] = replace(entry, bytes=earlier.bytes + entry.bytes)
        return True

    def report_missing_converters(self) -> None:
        """Say in one line which files no converter was there for."""
        missing = [entry for entry in self.ledger.values() if _NOT_INSTALLED in entry.reason]
        if missing:
            log.warning(
                "%d files: the first, %s, %s", len(missing), missing[0].url, missing[0].reason
            )
