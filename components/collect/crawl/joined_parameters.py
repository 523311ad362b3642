"""Session and campaign parameters of addresses, joined where their values bring the same page.

An address is asked for as it is written: only its server knows whether ``?session=`` names a visit
or one of five talks. Where several values have brought equal pages and none another, a further
value is not asked for, and the pages are one page in the ledger. So they are where a site writes a
session into its addresses until its cookie comes back, and the pages are the same with and without
it. Only names that are known to mark visits or campaigns count, and of visits only values that look
like a program's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from components.collect.web.page_fingerprint import PageFingerprint

_SESSIONS = (
    "cfid cftoken jsessionid osc_sid oscsid phpsessid sessid session session_id sessionid sid zenid"
)
_TRACKING = "_ga dclid fbclid gclid igshid mc_cid mc_eid msclkid yclid"
_SESSION_NAMES, _TRACKING_NAMES = frozenset(_SESSIONS.split()), frozenset(_TRACKING.split())
_SESSION_VALUE = re.compile(r"[0-9A-Za-z_,.~-]{12,}")
_IN_PATH = re.compile(r";([A-Za-z_]\w*)=([^/;?]*)|/(\([A-Z]\([0-9a-zA-Z]{20,}\)\))")
"""Path parameters (RFC 3986, section 3.3), and the session of ASP.NET without cookies."""
MIN_VALUES = 3
"""Values that have to bring one page before the next is not asked for: two may do so by chance."""


def split_parameters(url: str) -> tuple[str, dict[str, str]]:
    """URL without its session and campaign parameters, and these, by name."""
    if "?" not in url and ";" not in url and "/(" not in url:
        return url, {}
    parts = urlsplit(url)
    parameters: dict[str, str] = {}

    def take_from_path(match: re.Match[str]) -> str:
        name, value = (match[1], match[2]) if match[1] else ("(session)", match[3])
        if match[1] and not _marks_visit(name, value):
            return match[0]
        parameters[f";{name.lower()}"] = value
        return ""

    path = _IN_PATH.sub(take_from_path, parts.path) or "/"
    rest: list[str] = []
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if _marks_visit(name, value):
            parameters[name.lower()] = value
        else:
            rest.append(pair)
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join(rest), "")), parameters


def _marks_visit(name: str, value: str) -> bool:
    """True for a parameter of a visit or a campaign, as far as an address shows."""
    name = name.lower()
    if name in _SESSION_NAMES or name.startswith("aspsessionid"):
        return bool(_SESSION_VALUE.fullmatch(value))
    return _is_campaign(name)


def _is_campaign(name: str) -> bool:
    return name in _TRACKING_NAMES or name.startswith("utm_")


@dataclass
class _Evidence:
    equal: dict[str, None] = field(default_factory=dict)
    """Values that brought a page equal to another value's."""
    places: dict[str, None] = field(default_factory=dict)
    """Addresses without parameters at which they did."""
    bare_places: dict[str, None] = field(default_factory=dict)
    """Those at which the page without the parameter is the same."""
    differs: bool = False

    def note(self, value: str, place: str, is_equal: bool, has_bare: bool) -> None:
        """Note how a page at one value compares with that at another, or at none.

        Args:
            value: The value, of either page.
            place: Their address without parameters.
            is_equal: True where they are the same.
            has_bare: True where one of them has no such parameter.
        """
        self.differs |= not is_equal
        if is_equal and len(self.equal) < MIN_VALUES:
            self.equal[value] = None
        if is_equal and len(self.places) < MIN_VALUES:
            self.places[place] = None
        if is_equal and has_bare and len(self.bare_places) < MIN_VALUES:
            self.bare_places[place] = None


class JoinedParameters:
    """Evidence about session and campaign parameters, over one crawl."""

    def __init__(self) -> None:
        self._pages: dict[str, tuple[str, str]] = {}
        """Address without parameters -> the first that was fetched, and its text's digest."""
        self._evidence: dict[tuple[str, str], _Evidence] = defaultdict(_Evidence)
        """(host or address without parameters, name) -> evidence."""
        self._equal: dict[str, list[str]] = {}
        """First fetched address -> those that brought the same page, itself included."""

    def observe_page(self, url: str, page: PageFingerprint) -> None:
        """Compare a fetched page with those at other values of its parameters."""
        bare, parameters = split_parameters(url)
        first, first_digest = self._pages.setdefault(bare, (url, page.digest))
        if first == url:
            return
        is_equal = page.digest == first_digest
        _, first_parameters = split_parameters(first)
        if is_equal:
            self._equal.setdefault(first, [first]).append(url)
        host = urlsplit(bare).netloc
        for name, value in {**first_parameters, **parameters}.items():
            for scope in (bare, host):
                has_bare = (name in parameters) != (name in first_parameters)
                self._evidence[scope, name].note(value, bare, is_equal, has_bare)

    def find_copied(self, url: str) -> tuple[str, str] | None:
        """(fetched address, parameter) of the same page as ``url``'s; None where it is unknown."""
        bare, parameters = split_parameters(url)
        first = self._pages.get(bare)
        if not parameters or first is None or first[0] == url:
            return None
        host = urlsplit(bare).netloc
        if all(self._is_joined(bare, host, name) for name in parameters):
            return first[0], " and ".join(parameters)
        return None

    def copies(self) -> dict[str, tuple[str, str]]:
        """Fetched address -> (the address that stands for the same page, parameter), where joined.

        The one with the fewest parameters stands for all, of these the first.
        """
        copies: dict[str, tuple[str, str]] = {}
        for urls in self._equal.values():
            shown = min(urls, key=lambda url: len(split_parameters(url)[1]))
            for url in urls:
                bare, parameters = split_parameters(url)
                host = urlsplit(bare).netloc
                if url != shown and all(self._is_joined(bare, host, name) for name in parameters):
                    copies[url] = shown, " and ".join(parameters)
        return copies

    def _is_joined(self, bare: str, host: str, name: str) -> bool:
        """True where a parameter names no page: at this address, or wherever it stands."""
        here, anywhere = self._evidence.get((bare, name)), self._evidence.get((host, name))
        if here is not None and here.differs:
            return False
        if here is not None and len(here.equal) >= MIN_VALUES:
            return True
        # Two talks may share a text by chance; a path's session beside none is one visit's.
        if here is not None and here.bare_places and name.startswith(";"):
            return True
        if (
            anywhere is not None
            and not anywhere.differs
            and len(anywhere.bare_places) >= MIN_VALUES
        ):
            return True
        return (
            anywhere is not None
            and not anywhere.differs
            and (len(anywhere.equal) >= MIN_VALUES or _is_campaign(name))
            and len(anywhere.places) >= MIN_VALUES
        )


def same_page_reason(copied: tuple[str, str]) -> str:
    """Reason of an address that is joined with another."""
    url, name = copied
    return f"the same page as {url}: {name} names no page here"
