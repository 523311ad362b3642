"""Resolution of a crawl's inputs: its moment, the crawl it replays, the one it is compared with.

A crawl stands for a moment (``as_of``), so that a second run of the same config finds the first
one's pages. ``previous`` names the crawl before, whose unchanged pages need not be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from components.collect.files.find_files import digest_files
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.scrape_config import FILES_DATE, ScrapeConfig


def resolve_crawl(
    config: ScrapeConfig, crawl_records: Sequence[Mapping[str, Any]], refresh: bool, now: str
) -> ScrapeConfig:
    """Resolve the fields of a scrape config that the run sets.

    A crawl stands for the newest earlier crawl of the same config. Where that one's blocklist was
    shorter, or its opt-out policy another, it is replayed. Without one, and with ``refresh``, the
    crawl stands for ``now``. A given ``as_of`` stays. A new crawl of the web is compared with the
    newest sealed one. Files are found and digested.

    Args:
        config: As the user wrote it.
        crawl_records: Records of sealed and unfinished crawls.
        refresh: Crawl again even where an earlier crawl stands for this config.
        now: The current moment, as ``as_of`` is written.

    Raises:
        ConfigError: a glob matches no file.
    """
    if config.source == "files":
        digests = digest_files(config.files, config.folder)
        return config.model_copy(update={"as_of": FILES_DATE, "digests": digests})
    known_crawls = _crawls_of_same_config(config, crawl_records)
    usable = [] if refresh and not config.as_of else known_crawls
    usable = [crawl for crawl in usable if not config.as_of or crawl.as_of == config.as_of]
    blocklist, optouts = frozenset(config.blocklist), config.optouts
    fitting = [crawl for crawl in usable if crawl.can_stand_for(blocklist, optouts)]
    if fitting:
        newest = max(fitting, key=lambda b: (b.as_of, *b.preference(blocklist, optouts)))
        if newest.has_rules(blocklist, optouts):
            return config.model_copy(update=newest.resolved_fields)
        asked_again = now if newest.may_lack_pages(optouts) else ""
        replay_fields = {"as_of": newest.as_of, "repeats": newest.key, "previous": ""}
        return config.model_copy(update={**replay_fields, "asked_again": asked_again})
    moment = config.as_of or now
    new_fields = {"as_of": moment, "repeats": "", "asked_again": ""}
    previous = _previous_key(config, known_crawls, moment)
    return config.model_copy(update={**new_fields, "previous": previous})


@dataclass(frozen=True)
class _KnownCrawl:
    """An earlier crawl of the same config, with its moment and its rules."""

    resolved_fields: dict[str, str]
    """The config fields that were resolved for it."""
    blocklist: frozenset[str]
    optouts: OptoutConfig
    key: str
    """Empty for an unfinished one."""

    @property
    def as_of(self) -> str:
        return self.resolved_fields["as_of"]

    def has_rules(self, blocklist: frozenset[str], optouts: OptoutConfig) -> bool:
        return self.blocklist == blocklist and self.optouts == optouts

    def can_stand_for(self, blocklist: frozenset[str], optouts: OptoutConfig) -> bool:
        """True where a crawl under these rules is this one, or can be replayed from it."""
        return self.has_rules(blocklist, optouts) or bool(self.key and self.blocklist <= blocklist)

    def preference(self, blocklist: frozenset[str], optouts: OptoutConfig) -> tuple[object, ...]:
        """Sort key among crawls of one moment: the largest is taken."""
        same = self.has_rules(blocklist, optouts)
        return same, bool(self.key), self.optouts == optouts, len(self.blocklist), self.key

    def may_lack_pages(self, optouts: OptoutConfig) -> bool:
        """True where it may have left out pages that ``optouts`` permits."""
        if self.optouts.policy == "record":
            return False
        refused = set(self.optouts.refused_licences)
        return optouts.policy == "record" or not refused <= set(optouts.refused_licences)


_RESOLVED_FIELDS = ("as_of", "repeats", "previous", "asked_again")


def _previous_key(config: ScrapeConfig, known_crawls: Sequence[_KnownCrawl], moment: str) -> str:
    """Key of the newest sealed web crawl before ``moment``; empty for none.

    Of several of one moment, the one with the longest blocklist: it was replayed without forgotten
    pages and so holds none of them.
    """
    sealed = [crawl for crawl in known_crawls if crawl.key and crawl.as_of < moment]
    if config.source != "web" or not sealed:
        return ""
    optouts = config.optouts
    return max(sealed, key=lambda b: (b.as_of, len(b.blocklist), b.optouts == optouts, b.key)).key


def _crawls_of_same_config(
    config: ScrapeConfig, crawl_records: Sequence[Mapping[str, Any]]
) -> list[_KnownCrawl]:
    """Earlier crawls of the same config, of any moment, blocklist and opt-out policy.

    The robots that opt-outs are read for (``optouts.agents``) have to be the same, as a crawl's
    ledger holds no signals about others. Unfinished crawls count only where the sealed crawls that
    they rest on are still there.
    """
    own_values = _identity_fields(config)
    crawls: list[_KnownCrawl] = []
    for record in crawl_records:
        recorded_config = record.get("config")
        if not isinstance(recorded_config, Mapping):
            continue
        user_fields = {n: v for n, v in recorded_config.items() if n not in _RESOLVED_FIELDS}
        try:  # a field that came since had its default
            recorded = ScrapeConfig.model_validate(user_fields)
        except ValidationError:
            continue  # written by a version with other fields or bounds
        same_agents = recorded.optouts.agents == config.optouts.agents
        if same_agents and _identity_fields(recorded) == own_values:
            key = str(record.get("artifact", {}).get("name", "")).rpartition("/")[2]
            resolved_fields = {n: str(recorded_config.get(n, "")) for n in _RESOLVED_FIELDS}
            blocklist = frozenset(recorded.blocklist)
            crawls.append(_KnownCrawl(resolved_fields, blocklist, recorded.optouts, key))
    sealed = {crawl.key for crawl in crawls if crawl.key}
    return [b for b in crawls if b.as_of and (b.key or _base_crawls(b) <= sealed)]


def _identity_fields(config: ScrapeConfig) -> dict[str, Any]:
    """Key fields that two crawls of the same pages share, of any moment and any rules."""
    differing = {*_RESOLVED_FIELDS, "blocklist", "optouts"}
    return {name: value for name, value in config.key_fields().items() if name not in differing}


def _base_crawls(crawl: _KnownCrawl) -> set[str]:
    return {crawl.resolved_fields[name] for name in ("repeats", "previous")} - {""}
