"""Opt-outs from AI training: every way to say no, with its words, its place and its date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.collect.optouts.optout_policy import (
    OptoutConfig,
    OptoutSignal,
    denial_reason,
    resolve_signals,
)
from components.collect.optouts.robots_groups import (
    extract_agent_rules,
    matches_pattern,
    parse_robots_groups,
)
from components.collect.scrape import scrape
from components.collect.web.page_licences import licence_name
from components.core.errors import DataError
from components.core.store.workdir import Workdir
from tests.collect.crawling import (
    NOW,
    TEXT,
    asked,
    config,
    fresh,
    ledger,
    start_crawl,
    stored,
    words,
)

HTML = {"Content-Type": "text/html"}
Row = dict[str, Any]


def text(body: str) -> tuple[int, dict[str, str], bytes]:
    return 200, TEXT, body.encode()


def site(web: Any, *paths: str) -> None:
    """A home page that leads to pages of their own words."""
    web.pages["/"] = "".join(f'<a href="{path}">x</a>' for path in paths) + words("home")
    for path in paths:
        web.pages.setdefault(path, words(f"page {path.strip('/').replace('/', ' ')}"))


def rows(web: Any, work: Workdir, **fields: Any) -> dict[str, Row]:
    return ledger(work, scrape(config(web, **fields), work))


def said(row: Row) -> set[tuple[str, str, str]]:
    return {(s["kind"], s["value"], s["verdict"]) for s in row["optouts"]}


def test_robots_groups_for_ai_robots(web: Any, work: Workdir) -> None:
    web.pages["/robots.txt"] = text(
        "User-agent: *\nDisallow: /never/\n\nUser-agent: gptbot/1.1\nSitemap: /x\nUser-agent: CCBot\n"
        "Disallow: /essays/ # mine\nAllow: /essays/free\n\nUser-agent: Bingbot\nDisallow: /bing/\n"
    )
    site(web, "/essays/one", "/essays/free", "/bing/page", "/never/page")
    found = rows(web, work)
    assert found["essays/one"]["reason"] == (
        f"opted out: robots-agent: CCBot ({web.url}/robots.txt)"
    )
    assert said(found["essays/one"]) == {
        ("robots-agent", "GPTBot", "denied"),
        ("robots-agent", "CCBot", "denied"),
    }
    first = found["essays/one"]["optouts"][0]
    assert first["evidence"] == "User-agent: CCBot\nDisallow: /essays/ # mine"
    assert first["source"] == f"{web.url}/robots.txt"
    assert first["date"] == NOW
    assert found["essays/free"]["reason"] == ""
    assert found["bing/page"]["reason"] == ""  # it collects for a search engine
    assert found["never/page"]["reason"] == "robots.txt forbids it"
    assert "/essays/one" not in web.requests  # a no beforehand needs no fetch


@pytest.mark.parametrize(
    ("line", "value", "out"),
    [
        ("Content-Signal: search=yes, ai-train=no", "ai-train=no", True),
        ("content-signal: ai-train=yes,search=no", "ai-train=yes", False),
        ("Content-Signal: /a ai-train=no", "ai-train=no", True),
        ("Content-Signal: /b ai-train=no", None, False),
        ("Content-Signal: search=no", None, False),
        ("Content-Usage: train-ai=n", "train-ai=n", True),
        ("Content-Usage: / train-ai=n\nContent-Usage: /a train-ai=y", "train-ai=y", False),
        ("Content-Signal: ai-train=maybe", None, False),
    ],
)
def test_preferences_in_robots(
    web: Any, work: Workdir, line: str, value: str | None, out: bool
) -> None:
    web.pages["/robots.txt"] = text(f"User-agent: *\n{line}\nAllow: /\n")
    site(web, "/a")
    crawl = config(web, optouts=OptoutConfig(policy="record"))
    row = ledger(work, scrape(crawl, work))["a"]
    assert [s["value"] for s in row["optouts"]] == ([value] if value else [])
    assert [s["verdict"] for s in row["optouts"]] == (
        [] if value is None else ["denied" if out else "allowed"]
    )


def test_preferences_of_another_robots_group_are_not_ours(web: Any, work: Workdir) -> None:
    web.pages["/robots.txt"] = text(
        "User-agent: otherbot\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /\n"
    )
    site(web, "/a")
    assert rows(web, work)["a"]["optouts"] == []


@pytest.mark.parametrize(
    ("headers", "page", "denied"),
    [
        ({"X-Robots-Tag": "noai, noimageai"}, "", "noai"),
        ({}, '<meta name="robots" content="index, NOAI">', "noai"),
        ({"X-Robots-Tag": "otherbot: noai"}, "", None),
        ({"X-Robots-Tag": "GPTBot: noindex"}, "", "robots-agent"),
        ({}, '<meta name="ccbot" content="nofollow, noindex">', "robots-agent"),
        ({"X-Robots-Tag": "noimageai"}, "", None),
        ({"tdm-reservation": "1"}, "", "tdmrep"),
        ({}, '<meta name="tdm-reservation" content="1">', "tdmrep"),
        ({"tdm-reservation": "1"}, '<meta name="tdm-reservation" content="0">', None),
        ({"Content-Usage": "train-ai=n"}, "", "content-usage"),
        ({"Content-Signal": "ai-train=no"}, "", "content-signal"),
    ],
)
def test_what_a_page_says(
    web: Any, tmp_path: Path, headers: dict[str, str], page: str, denied: str | None
) -> None:
    body = f"<html><head>{page}</head><body>{words('own')}</body></html>"
    site(web, "/a")
    web.pages["/a"] = (200, {**HTML, **headers}, body.encode())
    work, kept = fresh(tmp_path, "honour"), fresh(tmp_path, "record")
    honoured = scrape(config(web), work)
    row = ledger(work, honoured)["a"]
    assert row["reason"].partition(": ")[2].partition(":")[0] == (denied or "")
    assert (f"{web.url}/a" in stored(work, honoured)) == (denied is None)
    assert honoured.stats["opted_out"] == (denied is not None)
    recorded = scrape(config(web, optouts=OptoutConfig(policy="record")), kept)
    noted = ledger(kept, recorded)["a"]
    assert noted["reason"] == ""
    assert noted["optouts"] == row["optouts"]
    assert bool(noted["optouts"]) == (headers != {"X-Robots-Tag": "otherbot: noai"})
    assert f"{web.url}/a" in stored(kept, recorded)


def test_the_owners_policy_is_evidence(web: Any, work: Workdir) -> None:
    site(web, "/a", "/b")
    tdm = {"TDM-Reservation": "1", "TDM-Policy": "https://a.example/policy.json"}
    web.pages["/a"] = (200, {**HTML, **tdm}, words("a").encode())
    metas = (
        '<meta name="tdm-reservation" content="1">'
        '<meta name="tdm-policy" content="https://b.example/policy.json">'
    )
    web.pages["/b"] = metas + words("b")
    found = rows(web, work)
    evidence = found["a"]["optouts"][0]["evidence"]
    assert evidence == "tdm-reservation: 1\ntdm-policy: https://a.example/policy.json"
    assert found["b"]["optouts"][0]["evidence"] == metas.replace("><", ">\n<")


def test_tdmrep_file_and_what_overrides_it(web: Any, work: Workdir) -> None:
    rules = [
        {"location": "/", "tdm-reservation": 0},
        {"location": "/books/*", "tdm-reservation": 1, "tdm-policy": "https://a.example/p.json"},
        {"location": "/books/free*", "tdm-reservation": "0"},
        {"location": "/bücher/", "tdm-reservation": 1},
        {"location": 7, "tdm-reservation": 1},
        "no rule",
    ]
    web.pages["/.well-known/tdmrep.json"] = (200, {}, json.dumps(rules).encode())
    web.pages["/books/lifted"] = (200, {**HTML, "TDM-Reservation": "0"}, words("lifted").encode())
    site(web, "/books/one", "/books/free", "/books/lifted", "/blog", "/b%C3%BCcher/a")
    found = rows(web, work)
    assert found["books/one"]["reason"].startswith("opted out: tdmrep: tdm-reservation=1")
    assert found["b%C3%BCcher/a"]["reason"].startswith("opted out: tdmrep")
    evidence = json.loads(found["books/one"]["optouts"][0]["evidence"])
    assert evidence == rules[1]
    assert found["books/free"]["reason"] == found["blog"]["reason"] == ""
    assert found["books/lifted"]["reason"] == ""
    assert said(found["books/lifted"]) == {
        ("tdmrep", "tdm-reservation=1", "overridden"),
        ("tdmrep", "tdm-reservation=0", "allowed"),
    }


def test_ai_txt(web: Any, work: Workdir) -> None:
    web.pages["/ai.txt"] = text(
        "# Spawning AI\nUser-Agent: *\nDisallow: *.html\nDisallow: *.pdf\nAllow: *.txt\n"
    )
    site(web, "/page", "/notes.txt")
    web.pages["/notes.txt"] = text("Plain words. " * 20)
    found = rows(web, work, seeds=[f"{web.url}/notes.txt", f"{web.url}/page"])
    assert found["page"]["reason"] == f"opted out: ai.txt: *.html ({web.url}/ai.txt)"
    assert found["page"]["optouts"][0]["evidence"] == "Disallow: *.html"
    assert found["notes.txt"]["reason"] == ""


def test_an_ai_txt_that_is_a_page_says_nothing(web: Any, work: Workdir) -> None:
    web.pages["/ai.txt"] = words("This site answers everything with a page. Disallow: nothing")
    web.pages["/.well-known/tdmrep.json"] = words("and so does this one")
    site(web, "/a")
    assert rows(web, work)["a"]["optouts"] == []


LICENSED = """<html><head>
<link rel="license" href="https://creativecommons.org/licenses/by-nc/4.0/deed.en">
<meta name="dcterms.rights" content="All rights reserved">
<script type="application/ld+json">{"@graph": [{"@type": "Article",
 "license": {"@id": "https://licences.example/own"}}]}</script>
<script type="application/ld+json">{broken</script></head>
<body><a href="http://creativecommons.org/publicdomain/zero/1.0/">CC0</a>%s</body></html>"""


def test_licences_are_noted_and_refused_on_request(web: Any, tmp_path: Path) -> None:
    site(web, "/a")
    link = {"Link": '<https://creativecommons.org/licenses/by-sa/3.0/>; rel="license"'}
    web.pages["/a"] = (200, {**HTML, **link}, (LICENSED % words("own")).encode())
    work = fresh(tmp_path, "a")
    row = rows(web, work)["a"]
    assert row["reason"] == ""
    assert {value for kind, value, verdict in said(row)} == {
        "cc-by-nc-4.0",
        "cc-by-sa-3.0",
        "cc0-1.0",
        "all rights reserved",
        "https://licences.example/own",
    }
    assert {verdict for _, _, verdict in said(row)} == {"noted"}
    by_nc = next(s for s in row["optouts"] if s["value"] == "cc-by-nc-4.0")
    assert by_nc["evidence"].startswith('<link rel="license" href="https://creativecommons.org')
    strict = OptoutConfig(refused_licences=["cc-by-nc-*"])
    refused = rows(web, fresh(tmp_path, "b"), optouts=strict)["a"]
    assert refused["reason"] == f"opted out: licence: cc-by-nc-4.0 ({web.url}/a)"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("//creativecommons.org/licenses/by-nc-nd/2.5/it/", "cc-by-nc-nd-2.5"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "public-domain-1.0"),
        ("  MIT\n License ", "mit license"),
    ],
)
def test_licence_names(value: str, name: str) -> None:
    assert licence_name(value) == name


def test_a_site_that_says_no_altogether_is_one_line(web: Any, work: Workdir) -> None:
    web.pages["/robots.txt"] = text("User-agent: Google-Extended\nDisallow: /\n")
    site(web, "/a")
    with pytest.raises(DataError, match=r"no page came from .*opted out: robots-agent: Google"):
        scrape(config(web), work)
    assert asked(web) == []


def test_other_robots_can_be_named(web: Any, work: Workdir) -> None:
    web.pages["/robots.txt"] = text("User-agent: NewBot\nDisallow: /a\n")
    site(web, "/a", "/b")
    row = rows(web, work, optouts=OptoutConfig(agents=["newbot"]))["a"]
    assert row["reason"].startswith("opted out: robots-agent: newbot")


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/private/", "/%70rivate/x", True),
        ("/%7Ejoe", "/~joe/", True),
        ("/a%2fb", "/a%2Fb", True),
        ("/a%2Fb", "/a/b", False),
        ("/a%2A", "/ab", False),  # a star that is meant as one
        ("/\u00fc", "/%c3%bc", True),
    ],
)
def test_paths_match_however_they_are_spelled(pattern: str, path: str, fits: bool) -> None:
    assert matches_pattern(pattern, path) is fits


def test_a_robots_file_of_many_robots_and_many_rules_stays_small() -> None:
    robots = [f"User-agent: bot{number}" for number in range(9_000)]
    found = parse_robots_groups("\n".join([*robots, *["Disallow: /x"] * 9_000]))
    groups = {id(group) for named in found.by_agent.values() for group in named}
    assert len(groups) == 1  # shared, and not copied for each
    assert len(found.binding_lines("bot7")) == 9_000
    text = "\n".join([*robots, *["Disallow: /x"] * 9_000])
    assert extract_agent_rules(text, "modelmill") == "User-agent: *"  # nothing in it is for us
    assert len(extract_agent_rules(text, "bot7").splitlines()) == 9_001


def test_one_no_is_enough() -> None:
    yes = OptoutSignal("content-signal", "ai-train=yes", "allowed", "x", "robots")
    no = OptoutSignal("noai", "noai", "denied", "y", "header")
    assert denial_reason(resolve_signals([yes, no])).startswith("opted out: noai")
    assert denial_reason(resolve_signals([yes])) == ""


def test_dates_are_the_crawls(web: Any, tmp_path: Path) -> None:
    """No clock gets in: another process at another time writes the same ledger."""
    site(web, "/a")
    web.pages["/a"] = (200, {**HTML, "X-Robots-Tag": "noai"}, words("a").encode())
    digests = [
        start_crawl(tmp_path / name, config(web)).communicate(timeout=60)[0] for name in "ab"
    ]
    assert digests[0] == digests[1] != ""
