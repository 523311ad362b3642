"""Fixes what a crawl looks at: its moment, the crawl it repeats, the one it compares itself with.

A crawl stands for a moment (``as_of``), so that a second run of the same config finds the first
one's pages. ``previous`` names the crawl before, whose unchanged pages need not be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.collect.files import digest_files
from components.collect.scrape import NO_DATE, ScrapeConfig


def resolve(
    config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]], refresh: bool, now: str
) -> ScrapeConfig:
    """``config`` with what it will look at fixed.

    A crawl stands for the newest earlier crawl with the same config (``earlier``: records of sealed
    and unfinished crawls), else it repeats the newest whose blocklist was shorter, else, and with
    ``refresh``, it stands for ``now``. A given ``as_of`` stays. A new crawl of the web compares
    itself with the newest sealed one. Files are found and digested.

    Raises:
        ConfigError: a glob matches no file.
    """
    if config.source == "files":
        digests = digest_files(config.files, config.folder)
        return config.model_copy(update={"as_of": NO_DATE, "digests": digests})
    known = _same_crawl(config, earlier)
    usable = [] if refresh and not config.as_of else known
    usable = [before for before in usable if not config.as_of or before.as_of == config.as_of]
    same = [before for before in usable if before.blocklist == frozenset(config.blocklist)]
    if same:
        newest = max(same, key=lambda before: (before.as_of, bool(before.key)))
        return config.model_copy(update=newest.fixed)
    shorter = [b for b in usable if b.key and b.blocklist < frozenset(config.blocklist)]
    if shorter:
        newest = max(shorter, key=lambda before: (before.as_of, len(before.blocklist)))
        update = {"as_of": newest.as_of, "repeats": newest.key, "previous": ""}
        return config.model_copy(update=update)
    moment = config.as_of or now
    update = {"as_of": moment, "repeats": "", "previous": _previous(config, known, moment)}
    return config.model_copy(update=update)


@dataclass(frozen=True)
class _Before:
    """An earlier crawl as far as a later one asks."""

    fixed: dict[str, str]
    """What was fixed for it."""
    blocklist: frozenset[str]
    key: str
    """Empty for an unfinished one."""

    @property
    def as_of(self) -> str:
        return self.fixed["as_of"]


_FIXED = ("as_of", "repeats", "previous")
_DEFAULTS = ScrapeConfig().model_dump(mode="json")


def _previous(config: ScrapeConfig, known: Sequence[_Before], moment: str) -> str:
    """Key of the newest sealed crawl of the web before ``moment``; of a given age, the longest
    blocklist: the one that was repeated without what is forgotten holds none of it.
    """
    sealed = [before for before in known if before.key and before.as_of < moment]
    if config.source != "web" or not sealed:
        return ""
    return max(sealed, key=lambda before: (before.as_of, len(before.blocklist), before.key)).key


def _same_crawl(config: ScrapeConfig, earlier: Sequence[Mapping[str, Any]]) -> list[_Before]:
    """Earlier crawls of the same config, whenever they were and whatever was blocked then.

    Unfinished ones only where the sealed crawls that they rest on are still there.
    """
    free = {*_FIXED, "blocklist"}
    own = config.model_dump(mode="json")
    found: list[_Before] = []
    for record in earlier:
        given = record.get("config")
        if not isinstance(given, Mapping):
            continue
        whole = {**_DEFAULTS, **given}  # a field that came since had its default
        if all(whole.get(name) == value for name, value in own.items() if name not in free):
            key = str(record.get("artifact", {}).get("name", "")).rpartition("/")[2]
            listed = frozenset(map(str, whole["blocklist"]))
            found.append(_Before({name: str(whole[name]) for name in _FIXED}, listed, key))
    sealed = {before.key for before in found if before.key}
    return [b for b in found if b.as_of and (b.key or _rests_on(b) <= sealed)]


def _rests_on(before: _Before) -> set[str]:
    return {before.fixed[name] for name in ("repeats", "previous")} - {""}
