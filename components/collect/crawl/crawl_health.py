"""Crawl health checks: unreachable seeds, the share of pages that failed, bounds that were met.

A crawl that fails them raises; the error is transient, and so tried again, where the site gave no
answer or a server error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.collect.crawl.crawl_budget import (
    BUDGET_SPENT,
    HOST_BUDGET_REASON,
    MAX_DEPTH_REASON,
    MAX_PAGES_REASON,
)
from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.web.ssrf_guard import PRIVATE_ADDRESS
from components.core.errors import DataError, MillError, TransientError
from components.core.log import get_logger


def check_seeds(seeds: Sequence[str], ledger: Mapping[str, LedgerEntry]) -> None:
    """Check that every seed was fetched.

    Raises:
        TransientError: a seed gave no answer or a server error.
        DataError: a seed failed for good.
    """
    seed_entries = [ledger[url] for url in seeds if url in ledger]
    failed = next((entry for entry in seed_entries if entry.failed and entry.reason), None)
    if failed is not None:
        # Offered for seeds alone: they are the user's own, a link or a redirect may be anybody's.
        is_private = PRIVATE_ADDRESS in failed.reason
        fix = "; to crawl it, set scrape.allow_private=true" if is_private else ""
        raise _failure(failed, f"seed {failed.url} cannot be reached: {failed.reason}{fix}")


def check_failed_share(ledger: Mapping[str, LedgerEntry], max_failed_share: float) -> None:
    """Check the share of failed pages, those kept from the previous crawl included.

    Raises:
        TransientError: too many failed, the first with no answer or a server error.
        DataError: too many failed, the first for good.
    """
    requested = [entry for entry in ledger.values() if entry.status or entry.failed]
    failed = [entry for entry in requested if entry.failed]
    if len(failed) > max_failed_share * len(requested):
        first = failed[0]
        raise _failure(
            first,
            f"{len(failed)} of {len(requested)} pages failed (max_failed_share "
            f"{max_failed_share:g}), the first {first.url}: {first.reason or first.trouble}",
        )


def warn_of_bounds(
    ledger: Mapping[str, LedgerEntry], max_pages: int, max_pages_per_host: int, max_depth: int
) -> None:
    """Warn of each bound that left known addresses unasked, with their number.

    Args:
        ledger: Entries by URL, those of addresses that were not asked for included.
        max_pages: Bound of requests in all.
        max_pages_per_host: Bound of requests to a host.
        max_depth: Bound of links from a seed.
    """
    log = get_logger(__name__)
    kept_count = sum(entry.trouble == BUDGET_SPENT for entry in ledger.values())
    spent_count = _count_unasked(ledger, MAX_PAGES_REASON) + kept_count
    if spent_count:
        rest = f", of which {kept_count} stay as the previous crawl has them" if kept_count else ""
        log.warning(
            "scrape.max_pages (%d) was used up with %d known addresses not asked for%s",
            max_pages,
            spent_count,
            rest,
        )
    if count := _count_unasked(ledger, HOST_BUDGET_REASON):
        log.warning(
            "scrape.max_pages_per_host (%d) was used up with %d known addresses not asked for",
            max_pages_per_host,
            count,
        )
    if count := _count_unasked(ledger, MAX_DEPTH_REASON):
        log.warning(
            "scrape.max_depth (%d) left %d known addresses not asked for, %s among them",
            max_depth,
            count,
            min(url for url, entry in ledger.items() if entry.reason.startswith(MAX_DEPTH_REASON)),
        )


def _count_unasked(ledger: Mapping[str, LedgerEntry], reason: str) -> int:
    return sum(e.unasked for e in ledger.values() if e.reason.startswith(reason))


def _failure(entry: LedgerEntry, message: str) -> MillError:
    """Error for a failed page: transient where no answer or a server error came."""
    if entry.url.startswith("file:") or entry.reason.startswith("refused"):
        return DataError(message)
    is_transient = entry.status == 0 or entry.status >= 500
    return TransientError(message) if is_transient else DataError(message)
