"""Configuration of the scrape stage: the source of pages, and bounds of a crawl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.collect.docsite.documentation_site import SiteConfig
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.web.transfer.request_identity import (
    RequestIdentity,
    explain_bad_cookie,
    explain_bad_header,
    explain_bad_proxy,
)
from components.collect.web.urls import (
    explain_bad_host,
    explain_bad_url,
    host_of,
    normalise_url,
    read_host,
)
from components.core.config.env_references import resolve_secret
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError

PageSource = Literal["embedded", "web", "files"]
FILES_DATE = "1970-01-01T00:00:00Z"
"""``as_of`` of a run over files, where only their contents count."""
_FILE_FIELDS = frozenset(
    {"files", "digests", "text_field", "url_field", "title_field", "part_bytes"}
)
_FIELDS_OF_OTHER_SOURCES: Mapping[PageSource, frozenset[str]] = MappingProxyType(
    {
        "embedded": frozenset({"seeds", "hosts", "headers", "cookies"}) | _FILE_FIELDS,
        "web": frozenset({"embedded"}) | _FILE_FIELDS,
        "files": frozenset(
            [
                "seeds",
                "hosts",
                "headers",
                "cookies",
                "embedded",
                "allow_private",
                "max_pages",
                "max_pages_per_host",
                "max_barren",
                "max_depth",
                "max_redirects",
            ]
        ),
    }
)
"""Source -> fields that it does not read, and that are therefore no part of its key."""

_NO_DOMAIN = re.compile(r"[*/]|\A[^:]*:[^:]*\Z")
_COMPATIBLE = re.compile(r"compatible;\s*([^\s;/()]+)")
"""Name of a robot that calls itself a browser: ``Mozilla/5.0 (compatible; acmebot/2.1)``."""


class ScrapeConfig(StageConfig):
    """Source of pages, and bounds and politeness of fetching them."""

    # Pace and patience: they decide when a page comes, not which page it is.
    excluded_from_key: ClassVar[frozenset[str]] = frozenset(
        [
            "delay_seconds",
            "concurrency",
            "retries",
            "backoff_seconds",
            "connect_seconds",
            "read_seconds",
            "page_seconds",
            "max_failed_share",
            "proxy",
            "ca_file",
        ]
    )

    as_of: str = Field(
        default="",
        pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$",
        description="the moment this crawl stands for, in UTC; set by the run",
    )
    sources: PageSource | None = Field(
        default=None,
        description="embedded, web or files; by default web where seeds are given, files where "
        "files are, else embedded",
    )
    seeds: list[str] = Field(default=[], description="http(s) URLs that a web crawl starts from")
    hosts: list[str] = Field(
        default=[],
        description="hosts that a web crawl may enter besides those of its seeds, each by its "
        "name alone: www.acme.example stands for all its ports, and for no other host",
    )
    files: list[str] = Field(
        default=[],
        description="globs of files: HTML, text, Markdown, rows (JSON, CSV, Parquet, Arrow), "
        "archives, dumps and documents; a folder stands for all below it",
    )
    text_field: str = Field(
        default="",
        max_length=200,
        description="field of a row's text, dotted inside objects (doc.text); by default the "
        "first known one that is not empty",
    )
    url_field: str = Field(
        default="", max_length=200, description="field of a row's address, in the same way"
    )
    title_field: str = Field(
        default="", max_length=200, description="field of a row's title, in the same way"
    )
    part_bytes: int = Field(
        default=2_000_000,
        ge=1_000,
        le=10**9,
        description="longest text of a file that stays whole; longer ones are split at a heading "
        "or paragraph",
    )
    folder: str = Field(
        default="",
        exclude=True,  # what counts is which files were found, not where
        description="folder that relative globs in files start from; set by the run: the folder of "
        "the YAML file that gives them, else the current one",
    )
    digests: dict[str, str] = Field(
        default={},
        description="SHA-256 by file name, or the reason for which a file is not read; set by "
        "the run, so that contents count",
    )
    embedded: SiteConfig = Field(
        default=SiteConfig(), description="the embedded documentation site of Python packages"
    )
    allow_private: bool = Field(
        default=False, description="let a web crawl reach private and loopback addresses"
    )
    max_pages: int = Field(
        default=20_000, ge=1, le=10_000_000, description="pages to request, at most"
    )
    max_pages_per_host: int = Field(
        default=10_000_000, ge=1, le=10_000_000, description="pages to request from one host"
    )
    max_barren: int = Field(
        default=20,
        ge=1,
        le=10**6,
        description="patience with crawl traps: URLs of one shape are asked for no more once twice "
        "as many pages, the latest ones, have brought nothing new",
    )
    max_depth: int = Field(default=20, ge=0, le=10_000, description="links from a seed, at most")
    max_redirects: int = Field(default=5, ge=0, le=20, description="redirects to one page")
    concurrency: int = Field(
        default=8, ge=1, le=256, description="concurrent requests to a host without a pause"
    )
    delay_seconds: float | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="pause between requests to a host; by default 1 s on the web, else none",
    )
    retries: int = Field(default=3, ge=0, le=20, description="retries of a failed request")
    backoff_seconds: float = Field(
        default=0.5, ge=0, le=600, description="pause before the first retry; doubles each time"
    )
    connect_seconds: float = Field(
        default=10, gt=0, le=600, description="timeout of connecting to a host"
    )
    read_seconds: float = Field(
        default=30, gt=0, le=600, description="timeout between two reads of a response"
    )
    page_seconds: float = Field(
        default=120,
        gt=0,
        le=3600,
        description="timeout of a whole request, and of converting a document",
    )
    max_bytes: int = Field(
        default=8_000_000, ge=1, le=10**9, description="largest page in bytes, decompressed"
    )
    user_agent: str = Field(
        default="modelmill",
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="User-Agent header",
    )
    robots_agent: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="name by which robots.txt and robots directives address the crawl; by default "
        "the first word of user_agent, or the one behind compatible; in it",
    )
    headers: dict[str, str] = Field(
        default={},
        description="own request headers by name, sent to the hosts of seeds and hosts alone (over "
        "http:// only where a seed is); a secret as ${NAME}, a variable of the environment",
    )
    cookies: dict[str, str] = Field(
        default={},
        description="own cookies by name, sent as headers are; each value as ${NAME}, a variable "
        "of the environment",
    )
    proxy: str = Field(
        default="",
        description="proxy for all requests: http://, https:// or socks5h://HOST:PORT; with a "
        "login as ${NAME}, a variable of the environment",
    )
    ca_file: str = Field(
        default="",
        description="file of the certificate authorities (PEM) that are trusted in place of the "
        "public ones",
    )
    blocklist: list[str] = Field(
        default=[], description="URLs (with all below them) and domains that are never fetched"
    )
    optouts: OptoutConfig = Field(
        default=OptoutConfig(), description="treatment of owners' opt-outs from AI training"
    )
    previous: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="key of the previous crawl, whose unchanged pages are not transferred again; "
        "set by the run",
    )
    repeats: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="key of an earlier crawl that this one replays, under the present blocklist "
        "and opt-out policy; set by the run",
    )
    asked_again: str = Field(
        default="",
        pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$",
        description="the moment at which pages are fetched that the replayed crawl left out for "
        "an opt-out and that are permitted now; set by the run",
    )
    max_failed_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of requested pages that may fail; more is an error",
    )
    shards: int = Field(default=8, ge=1, le=10_000, description="WARC files to spread pages over")

    @field_validator("seeds")
    @classmethod
    def _addresses(cls, seeds: list[str]) -> list[str]:
        for seed in seeds:
            if problem := explain_bad_url(seed):
                raise ValueError(problem)
        return seeds

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        if problem := next(filter(None, map(explain_bad_host, hosts)), ""):
            raise ValueError(problem)
        return hosts

    @field_validator("blocklist")
    @classmethod
    def _can_match(cls, entries: list[str]) -> list[str]:
        """Refuse domains with a pattern, a port or a path, which would block nothing."""
        domains = [entry.strip(".") for entry in entries if "://" not in entry]
        explained = [explain_bad_host(name) for name in domains if _NO_DOMAIN.search(name)]
        if problem := next(filter(None, explained), ""):
            raise ValueError(problem)
        return entries

    @field_validator("headers", "cookies", "proxy")
    @classmethod
    def _can_be_sent(
        cls, value: dict[str, str] | str, info: ValidationInfo
    ) -> dict[str, str] | str:
        if isinstance(value, str):
            problems = [explain_bad_proxy(value)]
        else:
            explain = explain_bad_header if info.field_name == "headers" else explain_bad_cookie
            problems = [explain(name, text) for name, text in value.items()]
        if problem := next(filter(None, problems), ""):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> ScrapeConfig:
        for source, values in (("web", self.seeds), ("files", self.files)):
            if self.sources == source and not values:
                field = "seeds" if source == "web" else "files"
                raise ValueError(f"sources: {source} needs {field}")
        if self.sources is None and self.seeds and self.files:
            raise ValueError("seeds and files are both given: choose one with sources")
        return self

    @property
    def source(self) -> PageSource:
        """Source of pages: ``sources``, else by the fields that are given."""
        if self.sources is not None:
            return self.sources
        return "files" if self.files else "web" if self.seeds else "embedded"

    @property
    def web_hosts(self) -> set[str]:
        """Hosts that a web crawl may enter."""
        seeds = (normalise_url(seed) for seed in self.seeds)
        return {host_of(seed) for seed in seeds if seed} | set(map(read_host, self.hosts))

    @property
    def blocked(self) -> list[str]:
        """Entries of the blocklist, as they are written and as addresses of the web are spelled."""
        spellings = [
            normalise_url(entry) if "://" in entry else read_host(entry.strip("."))
            for entry in self.blocklist
        ]
        return [*self.blocklist, *filter(None, spellings)]

    @property
    def agent_token(self) -> str:
        """Product token by which robots.txt addresses the crawl (RFC 9309, section 2.2.1)."""
        match = _COMPATIBLE.search(self.user_agent)
        name = match[1] if match else self.user_agent.split()[0].partition("/")[0]
        return self.robots_agent or name

    def request_identity(self) -> RequestIdentity:
        """Own headers, cookies, proxy and authorities, with their secrets resolved.

        Raises:
            ConfigError: a variable is not set, or a value cannot be sent.
        """
        proxy = resolve_secret(self.proxy)
        values = {name: resolve_secret(value) for name, value in self.headers.items()}
        cookies = {name: resolve_secret(value) for name, value in self.cookies.items()}
        for field, texts in (("headers", values), ("cookies", cookies), ("proxy", {"": proxy})):
            for name, text in texts.items():
                if not text.isprintable():
                    place = f"scrape.{field}.{name}".rstrip(".")
                    raise ConfigError(f"{place}: its value holds a control character")
        ca_file = Path(self.ca_file).expanduser() if self.ca_file else None
        if ca_file is not None and not ca_file.is_file():
            raise ConfigError(f"scrape.ca_file: {self.ca_file}: no such file")
        secure = frozenset(("https", host) for host in self.web_hosts)
        seeds = (normalise_url(seed) for seed in self.seeds)
        plain = frozenset(("http", host_of(url)) for url in seeds if url and url[:5] == "http:")
        return RequestIdentity(values, cookies, proxy, str(ca_file or ""), secure | plain)

    def key_fields(self) -> dict[str, Any]:
        """Values that a crawl's pages depend on: those that its source reads, less its pace."""
        unread = _FIELDS_OF_OTHER_SOURCES[self.source]
        fields = {name: value for name, value in super().key_fields().items() if name not in unread}
        return {**fields, "sources": self.source}
