"""Whether a crawl went well enough to go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.collect.crawl.fetch_ledger import Entry
from components.collect.web.ssrf_guard import PRIVATE
from components.core.errors import DataError, MillError, TransientError


def judge_seeds(seeds: Sequence[str], ledger: Mapping[str, Entry]) -> None:
    """Raises where a seed could not be had."""
    found = [ledger[url] for url in seeds if url in ledger]
    lost = next((entry for entry in found if entry.failed and entry.reason), None)
    if lost is not None:
        # Said of seeds alone: they are the user's own, a link or a redirect may be anybody's.
        mend = "; to crawl it, set scrape.allow_private=true" if PRIVATE in lost.reason else ""
        raise _failure(lost, f"seed {lost.url} cannot be reached: {lost.reason}{mend}")


def judge_share(ledger: Mapping[str, Entry], max_failed_share: float) -> None:
    """Raises where more failed than is allowed, kept from the crawl before or not."""
    asked = [entry for entry in ledger.values() if entry.status or entry.failed]
    failed = [entry for entry in asked if entry.failed]
    if len(failed) > max_failed_share * len(asked):
        first = failed[0]
        raise _failure(
            first,
            f"{len(failed)} of {len(asked)} pages failed (max_failed_share "
            f"{max_failed_share:g}), the first {first.url}: {first.reason or first.trouble}",
        )


def _failure(entry: Entry, message: str) -> MillError:
    """One that is worth another try where no answer or a server's error came."""
    if entry.url.startswith("file:") or entry.reason.startswith("refused"):
        return DataError(message)
    passing = entry.status == 0 or entry.status >= 500
    return TransientError(message) if passing else DataError(message)
