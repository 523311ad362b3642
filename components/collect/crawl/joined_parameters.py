"""Session and campaign parameters of addresses, joined where their values bring the same page.

An address is asked for as it is written: only its server knows whether ``?session=`` names a visit
or one of five talks. Where several values have brought equal pages and none another, a further
value is not asked for, and the pages are one page in the ledger. Only names that are known to mark
visits or campaigns count, and of visits only values that look like a program's.
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
    differs: bool = False

    def note(self, value: str, place: str, is_equal: bool) -> None:
        self.differs |= not is_equal
        if is_equal and len(self.equal) < MIN_VALUES:
            self.equal[value] = None
        if is_equal and len(self.places) < MIN_VALUES:
            self.places[place] = None


class JoinedParameters:
    """Evidence about session and campaign parameters, over one crawl."""

    def __init__(self) -> None:
        self._pages: dict[str, tuple[str, str]] = {}
        """Address without parameters -> the first that was fetched, and its text's digest."""
        self._evidence: dict[tuple[str, str], _Evidence] = defaultdict(_Evidence)
        """(host or address without parameters, name) -> evidence."""
        self._copies: dict[str, str] = {}
        """Fetched address -> the first one, which brought the same page."""

    def observe_page(self, url: str, page: PageFingerprint) -> None:
        """Compare a fetched page with those at other values of its parameters."""
        bare, parameters = split_parameters(url)
        first, first_digest = self._pages.setdefault(bare, (url, page.digest))
        if first == url:
            return
        is_equal = page.digest == first_digest
        _, first_parameters = split_parameters(first)
        if is_equal:
            self._copies[url] = first
        host = urlsplit(bare).netloc
        for name, value in {**first_parameters, **parameters}.items():
            for scope in (bare, host):
                self._evidence[scope, name].note(value, bare, is_equal)

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
        """Fetched address -> (the first address of the same page, parameter), where joined."""
        found = {url: self.find_copied(url) for url in self._copies}
        return {url: copied for url, copied in found.items() if copied is not None}

    def _is_joined(self, bare: str, host: str, name: str) -> bool:
        """True where a parameter names no page: at this address, or wherever it stands."""
        here, anywhere = self._evidence.get((bare, name)), self._evidence.get((host, name))
        if here is not None and here.differs:
            return False
        if here is not None and len(here.equal) >= MIN_VALUES:
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
