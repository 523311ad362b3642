"""Configuration of the scrape stage: the source of pages, and bounds of a crawl."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.collect.docsite.documentation_site import SiteConfig
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.web.urls import explain_bad_url, host_of, normalise_url
from components.core.config.stage_config import StageConfig

PageSource = Literal["embedded", "web", "files"]
FILES_DATE = "1970-01-01T00:00:00Z"
"""``as_of`` of a run over files, where only their contents count."""


class ScrapeConfig(StageConfig):
    """Source of pages, and bounds and politeness of fetching them."""

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
        default=[], description="hosts that a web crawl may enter besides those of its seeds"
    )
    files: list[str] = Field(
        default=[], description="globs of HTML, text, Markdown, JSONL, Parquet and WARC files"
    )
    folder: str = Field(
        default="",
        exclude=True,  # what counts is which files were found, not where
        description="folder that relative globs in files start from; set by the run: the folder of "
        "the YAML file that gives them, else the current one",
    )
    digests: dict[str, str] = Field(
        default={}, description="SHA-256 by file name; set by the run, so that contents count"
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
        description="pages without new words, among URLs of one shape, from which the shape can "
        "count as a crawl trap",
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
        default=120, gt=0, le=3600, description="timeout of a whole request"
    )
    max_bytes: int = Field(
        default=8_000_000, ge=1, le=10**9, description="largest page in bytes, decompressed"
    )
    user_agent: str = Field(
        default="modelmill",
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="User-Agent header; robots.txt rules are read for its first word",
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
        return {host_of(seed) for seed in seeds if seed} | {host.lower() for host in self.hosts}
