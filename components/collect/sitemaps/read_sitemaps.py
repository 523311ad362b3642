"""Reading of the sitemaps that a site names: which are asked for, and what is said of the others.

robots.txt may name sitemaps on any host (sitemaps.org 0.9, "Sitemaps & Cross Submits"); one that an
index names has to lie on the index's host or on one that the crawl may enter. A sitemap that is not
read, and an entry that is no address, are told to the crawl with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from components.collect.crawl.crawl_budget import OUTSIDE_REASON
from components.collect.crawl.polite_fetcher import PoliteFetcher
from components.collect.crawl.response_store import StoredResponse
from components.collect.crawl.robots_rules import fetch_following_redirects
from components.collect.sitemaps import sitemap_file
from components.collect.sitemaps.sitemap_file import SitemapFile, decode_sitemap, parse_sitemap
from components.collect.web.http_fetcher import FetchResult
from components.collect.web.named_links import explain_unfollowed
from components.collect.web.urls import host_of, normalise_url, origin_of, resolve_link
from components.core.log import get_logger

MAX_SITEMAPS = 100
"""Sitemaps of pages read of one site or seed, and indexes of sitemaps too."""
MAX_LISTED_PAGES = 1_000_000
"""Addresses taken from the sitemaps of one site or seed: 100 MB of memory."""
READ_AS_SITEMAP = "a sitemap: what it lists is asked for"
"""Reason of a seed that is no page itself."""
_UNREAD = "a sitemap that is not read: "
_TOO_MANY = f"{_UNREAD}{MAX_SITEMAPS} of its site were; name it in scrape.seeds"
_ENOUGH = f"{_UNREAD}those before it list scrape.max_pages addresses"
_SITEMAP_SUFFIXES = (".xml", ".gz", ".txt", ".rss", ".atom", ".rdf")
_SITEMAP_TYPES = ("xml", "gzip", "octet-stream", "a feed")
"""Parts of media types, and of reasons, of what may be a sitemap."""


@dataclass(frozen=True)
class NamedSitemap:
    """A sitemap's address as it was written, and who names it."""

    location: str
    base: str
    is_guess: bool = False
    """True for ``/sitemap.xml`` of a site whose robots.txt names none."""
    is_vouched: bool = False
    """True where robots.txt names it, or an index of the same host that robots.txt names."""


@dataclass
class SitemapListing:
    """Pages that sitemaps list, and the sitemaps that were asked for and bring nothing."""

    pages: dict[str, None] = field(default_factory=dict)
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Address -> status and reason."""


@dataclass
class SitemapReader:
    """Reader of sitemaps for one crawl."""

    fetcher: PoliteFetcher
    may_enter: Callable[[str], bool]
    """True for an address on a host that the crawl may enter."""
    leave_unasked: Callable[[str, str], object]
    """Told each address that is not asked for, with the reason."""
    read: set[str] = field(default_factory=set)
    """Sitemaps that were read for other sites, and seeds: none is read twice."""

    async def read_site(self, site_origin: str) -> SitemapListing:
        """Read the sitemaps of a site: those that robots.txt names, else ``/sitemap.xml``."""
        rules = self.fetcher.rules_of(site_origin)
        if rules is None:
            return SitemapListing()
        named = [
            NamedSitemap(location, f"{site_origin}/", is_vouched=True)
            for location in rules.sitemap_urls()
        ]
        guess = NamedSitemap(f"{site_origin}/sitemap.xml", site_origin, is_guess=True)
        return await self._read_all(site_origin, named or [guess])

    async def read_seed(self, url: str, response: StoredResponse) -> SitemapListing | None:
        """Read a seed as a sitemap or a feed; None where it is a page.

        Args:
            url: The seed.
            response: Its response as a page.
        """
        if response.location is not None or not 200 <= response.status < 300:
            return None
        if response.bytes:
            body = self.fetcher.responses.load_body(url)
        elif _may_be_sitemap(url, response.headers.get("content-type", ""), response.reason):
            fetched = await self.fetcher.fetch_text(url, sitemap_file.MAX_SITEMAP_BYTES)
            body = fetched.body
        else:
            return None
        text, _ = decode_sitemap(body)
        try:
            sitemap = parse_sitemap(text, 1)
        except ValueError:
            return None
        if not sitemap.is_sitemap:
            return None
        named = NamedSitemap(url, url)
        return await self._read_all(origin_of(url), [named], {url: FetchResult(200, body=body)})

    async def _read_all(
        self,
        site_origin: str,
        named: Iterable[NamedSitemap],
        known: dict[str, FetchResult] | None = None,
    ) -> SitemapListing:
        """Read sitemaps and those that they name.

        Args:
            site_origin: The site that names the first.
            named: The first sitemaps.
            known: Responses that are there already, by address.
        """
        queue = _SitemapQueue(self, site_origin, deque(named), known or {})
        while queue.left:
            await queue.read_next()
        queue.warn_of_unread()
        return queue.listing


@dataclass
class _SitemapQueue:
    """Sitemaps of one site that are still to be read, and what the others list."""

    reader: SitemapReader
    site_origin: str
    left: deque[NamedSitemap]
    known: dict[str, FetchResult]
    listing: SitemapListing = field(default_factory=SitemapListing)
    _seen: set[str] = field(default_factory=set)
    _own_pages: int = 0
    """Listed pages on hosts that the crawl may enter."""
    _lists: int = 0
    _indexes: int = 0
    _beyond: list[str] = field(default_factory=list)
    """Sitemaps beyond ``MAX_SITEMAPS``."""
    _unread: dict[str, str] = field(default_factory=dict)
    """Other sitemaps that bring nothing -> reason."""

    async def read_next(self) -> None:
        """Read one sitemap."""
        named = self.left.popleft()
        address = normalise_url(named.location, named.base)
        if address is None:
            self._leave_entry(named.location, named.base, "a sitemap at ")
            return
        is_read = address in self.reader.read and address not in self.known
        if address in self._seen or is_read:
            return
        self._seen.add(address)
        if reason := await self._reason_against(address, named):
            self.reader.leave_unasked(address, reason)
            return
        self.reader.read.add(address)
        fetched = self.known.get(address) or await self._fetch(address)
        if fetched.reason or fetched.location is not None:
            self._note_failure(address, named, fetched.status, fetched.reason or "a redirect")
            return
        text, note = decode_sitemap(fetched.body)
        most = MAX_LISTED_PAGES - len(self.listing.pages)
        try:
            sitemap = parse_sitemap(text, most + 1)
        except ValueError as error:
            self._note_failure(address, named, fetched.status, str(error))
            return
        if len(sitemap.locations) > most:
            note = f"its site lists more than {MAX_LISTED_PAGES} addresses, the rest is not read"
            sitemap.locations.pop()
        if reason := note or sitemap.explain_empty():
            self._note_failure(address, named, fetched.status, reason)
        self._take_addresses(sitemap, address, named)

    async def _fetch(self, address: str) -> FetchResult:
        limit = sitemap_file.MAX_SITEMAP_BYTES
        return await fetch_following_redirects(address, limit, self.reader.fetcher.fetch_text)

    async def _reason_against(self, address: str, named: NamedSitemap) -> str:
        """Reason for which a sitemap is not asked for; empty for none."""
        if address in self.known:
            return ""
        if self._own_pages >= self.reader.fetcher.policy.max_pages:
            return _ENOUGH
        if MAX_SITEMAPS in (self._lists, self._indexes):
            self._beyond.append(address)
            return _TOO_MANY
        is_near = host_of(address) == host_of(named.base) or self.reader.may_enter(address)
        if not named.is_vouched and not is_near:
            self._unread[address] = OUTSIDE_REASON
            return f"{_UNREAD}{OUTSIDE_REASON}"
        if reason := await self.reader.fetcher.refuse_site_file(address, named.is_vouched):
            self._unread[address] = reason
            return f"{_UNREAD}{reason}"
        return ""

    def _note_failure(self, address: str, named: NamedSitemap, status: int, reason: str) -> None:
        """Note why a sitemap that was asked for brings nothing, or not all of it.

        Args:
            address: The sitemap.
            named: Who names it; nobody misses one that was guessed and is not there.
            status: HTTP status, 0 for no answer.
            reason: Why it is not read.
        """
        if named.is_guess and 0 < status < 500:
            return
        self._unread[address] = reason
        self.listing.failures[address] = status, f"{_UNREAD}{reason}"

    def _take_addresses(self, sitemap: SitemapFile, address: str, named: NamedSitemap) -> None:
        """Take the pages or sitemaps of a sitemap.

        Args:
            sitemap: What was read.
            address: Its address.
            named: Who names it.
        """
        if sitemap.is_index:
            self._indexes += 1
            is_vouched = {host_of(address): named.is_vouched}
            for location in sitemap.locations:
                nested = normalise_url(location, address)
                vouched = is_vouched.get(host_of(nested), False) if nested else False
                self.left.append(NamedSitemap(location, address, is_vouched=vouched))
            return
        self._lists += 1
        for location in sitemap.locations:
            page = resolve_link(location, address)
            if page is None:
                self._leave_entry(location, address)
            elif page not in self.listing.pages:
                self.listing.pages[page] = None
                self._own_pages += self.reader.may_enter(page)

    def _leave_entry(self, location: str, base: str, what: str = "") -> None:
        """Enter an address of a sitemap that cannot be asked for.

        Args:
            location: The address as it was written.
            base: Where it stands.
            what: Words before the reason.
        """
        shown, reason = explain_unfollowed(location, base)
        if shown:
            self.reader.leave_unasked(shown, f"{what}{reason}")

    def warn_of_unread(self) -> None:
        """Warn of the sitemaps that bring nothing, in a line for each kind."""
        log = get_logger(__name__)
        if self._beyond:
            log.warning(
                "%s: %d sitemaps were read, the most of one site; %d more that it names were not, "
                "%s among them; name them in scrape.seeds",
                self.site_origin,
                MAX_SITEMAPS,
                len(self._beyond),
                min(self._beyond),
            )
        if self._unread:
            address = min(self._unread)
            log.warning(
                "%s: %d sitemaps that it names are not read, %s among them: %s",
                self.site_origin,
                len(self._unread),
                address,
                self._unread[address],
            )


def _may_be_sitemap(url: str, content_type: str, reason: str) -> bool:
    """True for a response that is no page and may be a sitemap, by its name or its type.

    Args:
        url: Its address.
        content_type: Its ``Content-Type``.
        reason: Why it is no page, with the type that its content has.
    """
    path = url.partition("?")[0].lower()
    media_type = f"{content_type} {reason}".lower()
    return path.endswith(_SITEMAP_SUFFIXES) or any(part in media_type for part in _SITEMAP_TYPES)
