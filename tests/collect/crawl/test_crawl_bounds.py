"""Bounds of a crawl: dot segments, budgets of a host and of depth, canonical links."""

from __future__ import annotations

from typing import Any

import pytest

from components.collect.scrape import scrape
from components.collect.web.urls import normalise_url
from components.core.store.workdir import Workdir
from tests.collect.conftest import Web, serving
from tests.collect.crawling import LONG, TEXT, asked, config, ledger, words


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/..a/b../...", "/..a/b../..."),
        ("/a//b", "/a//b"),
        ("/a%2Fb", "/a%2Fb"),
    ],
)
def test_dot_segments_are_taken_out(path: str, expected: str) -> None:
    assert normalise_url(f"http://a.example{path}") == f"http://a.example{expected}"


def test_a_detour_is_no_way_around_robots(work: Workdir, web: Any) -> None:
    """A server takes dot segments out; a rule has to be asked about what it will send."""
    web.pages |= {
        "/robots.txt": (200, TEXT, b"User-agent: *\nDisallow: /private/\n"),
        "/": f'<a href="{web.url}/public/../private/x">x</a>{LONG}',
        "/private/x": LONG,
        "/public/../private/x": LONG,
    }
    rows = ledger(work, scrape(config(web), work))
    assert rows["private/x"]["reason"] == "robots.txt forbids it"
    assert asked(web) == ["/"]


def test_budgets_of_a_host_and_of_depth(work: Workdir, web: Any) -> None:
    pages = {"/": "".join(f'<a href="/{n}">x</a>' for n in range(20)) + LONG}
    pages |= {f"/{n}": f'<a href="/deep{n}">x</a>' + LONG for n in range(20)}
    web.pages = pages
    with serving(Web("127.0.0.2", web.server.server_port)) as other:
        other.pages = dict(pages)
        crawl = config(web, seeds=[f"{web.url}/", f"{other.url}/"], max_pages_per_host=7)
        rows = ledger(work, scrape(crawl.model_copy(update={"max_depth": 1}), work))
    assert len(asked(web)) == len(asked(other)) == 7
    assert len(rows) == 7  # of each path; the hosts share them
    assert not [path for path in asked(web) if "deep" in path]


CANONICAL = '<link rel="canonical" href="{}">'


def test_canonical_links(work: Workdir, web: Any) -> None:
    header = {"Content-Type": "text/html", "Link": '</real>; rel="canonical"'}
    names = ("print", "mobile", "lost", "mutual1", "mutual2", "claims-home")
    web.pages |= {
        "/": "".join(f'<a href="/{name}">x</a>' for name in names) + words("home"),
        "/real": words("real"),
        "/print": CANONICAL.format("/real") + words("real print"),
        "/mobile": (200, header, words("real mobile").encode()),
        "/lost": CANONICAL.format("/nowhere") + words("lost"),
        "/mutual1": CANONICAL.format("/mutual2") + words("one"),
        "/mutual2": CANONICAL.format("/mutual1") + words("two"),
        "/claims-home": CANONICAL.format("/") + words("claims"),
    }
    rows = ledger(work, scrape(config(web), work))
    kept = {name for name, row in rows.items() if not row["reason"]}
    assert kept == {"", "real", "lost", "mutual2", "claims-home"}
    assert rows["print"]["reason"] == rows["mobile"]["reason"] == f"canonical is {web.url}/real"
    assert rows["lost"]["canonical"] == f"{web.url}/nowhere"
