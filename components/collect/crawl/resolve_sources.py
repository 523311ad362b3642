"""Fixes what a crawl looks at: its moment, the crawl it repeats, the one it compares itself with.

A crawl stands for a moment (``as_of``), so that a second run of the same config finds the first
one's pages. ``previous`` names the crawl before, whose unchanged pages need not be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.collect.local_files import digest_files
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.scrape import NO_DATE, ScrapeConfig


def resolve(
    config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]], refresh: bool, now: str
) -> ScrapeConfig:
    """``config`` with what it will look at fixed.

    A crawl stands for the newest earlier crawl with the same config (``earlier``: records of sealed
    and unfinished crawls). Where that one's blocklist was shorter, or opt-outs were judged
    otherwise, it repeats it. Without one, and with ``refresh``, it stands for ``now``. A given
    ``as_of`` stays. A new crawl of the web compares itself with the newest sealed one. Files are
    found and digested.

    Raises:
        ConfigError: a glob matches no file.
    """
    if config.source == "files":
        digests = digest_files(config.files, config.folder)
        return config.model_copy(update={"as_of": NO_DATE, "digests": digests})
    known = _same_crawl(config, earlier)
    usable = [] if refresh and not config.as_of else known
    usable = [before for before in usable if not config.as_of or before.as_of == config.as_of]
    listed, judged = frozenset(config.blocklist), config.optouts
    fitting = [before for before in usable if before.is_like(listed, judged)]
    if fitting:
        newest = max(fitting, key=lambda b: (b.as_of, *b.nearness(listed, judged)))
        if newest.is_same(listed, judged):
            return config.model_copy(update=newest.fixed)
        again = now if newest.left_out_more(judged) else ""
        repeated = {"as_of": newest.as_of, "repeats": newest.key, "previous": ""}
        return config.model_copy(update={**repeated, "asked_again": again})
    moment = config.as_of or now
    fresh = {"as_of": moment, "repeats": "", "asked_again": ""}
    previous = _previous(config, known, moment)
    return config.model_copy(update={**fresh, "previous": previous})


@dataclass(frozen=True)
class _Before:
    """An earlier crawl as far as a later one asks."""

    fixed: dict[str, str]
    """What was fixed for it."""
    blocklist: frozenset[str]
    optouts: OptoutConfig
    key: str
    """Empty for an unfinished one."""

    @property
    def as_of(self) -> str:
        return self.fixed["as_of"]

    def is_same(self, blocklist: frozenset[str], optouts: OptoutConfig) -> bool:
        return self.blocklist == blocklist and self.optouts == optouts

    def is_like(self, blocklist: frozenset[str], optouts: OptoutConfig) -> bool:
        """Whether a crawl under these rules is this one, or can be made of it."""
        return self.is_same(blocklist, optouts) or bool(self.key and self.blocklist <= blocklist)

    def nearness(self, blocklist: frozenset[str], optouts: OptoutConfig) -> tuple[object, ...]:
        """Of crawls of one moment, the largest is the one to take."""
        same = self.is_same(blocklist, optouts)
        return same, bool(self.key), self.optouts == optouts, len(self.blocklist), self.key

    def left_out_more(self, optouts: OptoutConfig) -> bool:
        """Whether it may have left out pages that come under ``optouts``."""
        if self.optouts.policy == "record":
            return False
        refused = set(self.optouts.refused_licences)
        return optouts.policy == "record" or not refused <= set(optouts.refused_licences)


_FIXED = ("as_of", "repeats", "previous", "asked_again")
_DEFAULTS = ScrapeConfig().model_dump(mode="json")


def _previous(config: ScrapeConfig, known: Sequence[_Before], moment: str) -> str:
    """Key of the newest sealed crawl of the web before ``moment``; of a given age, the longest
    blocklist: the one that was repeated without what is forgotten holds none of it.
    """
    sealed = [before for before in known if before.key and before.as_of < moment]
    if config.source != "web" or not sealed:
        return ""
    mine = config.optouts
    return max(sealed, key=lambda b: (b.as_of, len(b.blocklist), b.optouts == mine, b.key)).key


def _same_crawl(config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]]) -> list[_Before]:
    """Earlier crawls of the same config, whenever they were, whatever was blocked and refused then.

    Of opt-outs, the robots that are listened for have to be the same: a crawl's ledger holds what
    it heard, and no word about others.

    Unfinished ones only where the sealed crawls that they rest on are still there.
    """
    free = {*_FIXED, "blocklist", "optouts"}
    own = config.model_dump(mode="json")
    found: list[_Before] = []
    for record in earlier:
        given = record.get("config")
        if not isinstance(given, Mapping):
            continue
        whole = {**_DEFAULTS, **given}  # a field that came since had its default
        optouts = OptoutConfig.model_validate(whole["optouts"])
        same = all(whole.get(name) == value for name, value in own.items() if name not in free)
        if same and optouts.agents == config.optouts.agents:
            key = str(record.get("artifact", {}).get("name", "")).rpartition("/")[2]
            listed = frozenset(map(str, whole["blocklist"]))
            fixed = {name: str(whole[name]) for name in _FIXED}
            found.append(_Before(fixed, listed, optouts, key))
    sealed = {before.key for before in found if before.key}
    return [b for b in found if b.as_of and (b.key or _rests_on(b) <= sealed)]


def _rests_on(before: _Before) -> set[str]:
    return {before.fixed[name] for name in ("repeats", "previous")} - {""}
