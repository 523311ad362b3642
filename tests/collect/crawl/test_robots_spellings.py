"""Robots files as people write them: spellings of keys and paths, charsets, ends of lines, lengths."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from protego import Protego

from components.collect.crawl.robots_rules import RobotsRules
from components.collect.optouts.robots_groups import (
    decode_site_file,
    extract_agent_rules,
    find_deciding_rule,
    parse_robots_groups,
)
from components.collect.scrape import scrape
from components.collect.web.urls import normalise_url
from components.core.store.workdir import Workdir
from tests.collect.crawling import config, ledger, words

AGENT = "modelmill"


def forbids(robots: bytes | str, path: str) -> bool:
    """What the crawl obeys; the reader of opt-outs has to come to the same."""
    text = decode_site_file(robots.encode() if isinstance(robots, str) else robots)
    url = normalise_url(f"http://a.example{path}")
    assert url is not None
    rules = RobotsRules(Protego.parse(extract_agent_rules(text, AGENT)), "", text)
    forbidden = rules.forbids_url(url, AGENT)
    lines = parse_robots_groups(text).binding_lines(AGENT)
    parts = urlsplit(url)
    asked = f"{parts.path}?{parts.query}" if parts.query else parts.path
    deciding = find_deciding_rule(lines, asked)
    assert forbidden == (deciding is not None and deciding.key == "disallow")
    return forbidden


@pytest.mark.parametrize(
    "robots",
    [
        "User-agent: *\nDisallow: /x",
        "\ufeffUser-agent: *\r\nDisallow: /x\r\n",
        "User-agent: *\rDisallow: /y\rDisallow: /x\r",
        "Useragent: *\nDisallow: /x",
        "User Agent: *\nDisallow: /x",
        "USER-AGENT:*\nDISALLOW:/x",
        "User-Agent : modelmill\nDisallow : /x",
        "User-agent: ModelMill/2.1 (+http://a.example/bot)\nDisallow: /x",
        "User-agent: modelmill # our friend\nDisallow: /x # not this",
        "User-agent *\nDisallow /x",
        "User-agent: *\nDissallow: /x",
        "User-agent: *\nDisalow: /x",
        "User-agent: *\n\n\n# comment\n\nDisallow: /x",
        "Disallow: /all\nUser-agent: *\nDisallow: /x",
        "User-agent: *\n" + "# filler line of a long robots file\n" * 30_000 + "Disallow: /x\n",
        "User-agent: other\nUser-agent: *\nDisallow: /x\n\nUser-agent: third\nDisallow:",
    ],
)
def test_spellings_of_a_file(robots: str) -> None:
    assert forbids(robots, "/x/y")
    assert not forbids(robots, "/ok")
    wide = robots.removeprefix("\ufeff")
    assert forbids(("\ufeff" + wide).encode("utf-16-le"), "/x")
    assert forbids(wide.encode("utf-16-be"), "/x")


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("/café", "/caf%C3%A9/x", True),
        ("/café", "/caf%c3%a9", True),
        ("/caf%c3%a9", "/café", True),
        ("/café", "/cafe", False),
        ("/%7Euser", "/~user", True),
        ("/~user", "/%7euser/x", True),
        ("/a%2Fb", "/a/b", False),
        ("/a%2fb", "/a%2Fb", True),
        ("/[x]", "/%5Bx%5D", True),
        ("/*.php$", "/a.php", True),
        ("/*.php$", "/a.php?x=1", False),
        ("/*?q=привет", "/s?q=привет", True),
        ("/p|q", "/p%7Cq", True),
        ("/", "/anything", True),
        ("", "/anything", False),
    ],
)
def test_spellings_of_a_path(rule: str, path: str, expected: bool) -> None:
    assert forbids(f"User-agent: *\nDisallow: {rule}\n", path) == expected


def test_a_rule_in_latin_1_is_about_latin_1_addresses() -> None:
    robots = "User-agent: *\n# Zürich\nDisallow: /café\n".encode("latin-1")
    assert forbids(robots, "/caf%E9")
    assert not forbids(robots, "/cafe")


def test_a_page_in_place_of_a_file_forbids_nothing() -> None:
    assert not forbids("<html><body>Not found, Disallow: / sorry</body></html>", "/x")
    assert not forbids("<pre>\nDisallow: /\n</pre>", "/x")


def test_a_crawl_obeys_a_file_in_utf_16(work: Workdir, web: Any) -> None:
    robots = "\ufeffUser-agent: *\nDisallow: /closed\n".encode("utf-16-le")
    web.pages |= {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, robots),
        "/": '<a href="/closed">x</a><a href="/open">y</a>' + words("home"),
        "/closed": words("closed"),
        "/open": words("open"),
    }
    rows = ledger(work, scrape(config(web), work))
    assert rows["closed"]["reason"] == "robots.txt forbids it"
    assert not rows["open"]["reason"]
