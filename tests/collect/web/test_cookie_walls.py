"""Pages that wait for their cookies are asked for once more, and no others; deletions hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.curate.web.http_situations import build_response
from benchmarks.curate.web.raw_site import Answer, open_raw_site
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.web.cookie_jar import CookieJar, delete_cookie, find_changes, merge_cookies
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, SITE_FILES, ledger, stored, words

BANNER = "<footer>We use cookies to improve this site.</footer>"


def line(name: str, value: str, domain: str = "a.example") -> str:
    return f"{domain}\tFALSE\t/\tFALSE\t0\t{name}\t{value}"


def crawl(answers: dict[str, Answer], folder: Path, **fields: object) -> tuple[list[str], set[str]]:
    """(paths of pages that were asked for, paths of pages that were stored) of a crawl."""
    with open_raw_site(answers) as site:
        values = {"seeds": [f"{site.url}/"], **fields}
        config = ScrapeConfig.model_validate(
            {
                "as_of": NOW,
                "allow_private": True,
                "delay_seconds": 0,
                "retries": 0,
                "max_failed_share": 1,
                "shards": 1,
                **values,
            }
        )
        work = Workdir.temporary(folder)
        pages = scrape(config, work)
        kept = {url.removeprefix(site.url) for url in stored(work, pages)}
        assert ledger(work, pages)
        return [target for target in site.targets if target not in SITE_FILES], kept


@pytest.mark.parametrize("text", ["{}", "{}" + LONG, "{}" + 9 * LONG])
@pytest.mark.parametrize(
    "cookie", ["csrf={}; Path=/", "seen{}=1; Path=/", "csrf={}; Path=/; HttpOnly"]
)
def test_a_banner_beside_a_new_cookie_is_no_wall(tmp_path: Path, text: str, cookie: str) -> None:
    tokens = itertools.count()

    def page(name: str, links: str = "") -> Answer:
        body = f"<p>{text.format(f'The page {name} is about {name}.')}</p>{links}{BANNER}"
        return lambda head: build_response(body, f"Set-Cookie: {cookie.format(next(tokens))}")

    names = [f"/p{letter}" for letter in "abcdefghij"]
    links = "".join(f'<a href="{name}">x</a>' for name in names)
    answers = {"/": page("home", links)} | {
        name: page(name, '<a href="/">home</a>') for name in names
    }
    asked, kept = crawl(answers, tmp_path)
    assert sorted(asked) == sorted(answers)
    assert kept == set(answers)


WALL = "<p>Please enable cookies to go on.</p>"


def behind_wall(name: str) -> Answer:
    """A page that opens with any cookie."""
    inside = build_response(words(f"inside {name}"))
    wall = build_response(WALL, "Set-Cookie: seen=1; Path=/")
    return lambda head: inside if b"seen=1" in head else wall


def test_a_page_that_asks_for_cookies_is_asked_once_more(tmp_path: Path) -> None:
    asked, kept = crawl({"/": behind_wall("home")}, tmp_path)
    assert asked == ["/", "/"]
    assert kept == {"/"}


def test_repeats_count_against_the_budget(tmp_path: Path) -> None:
    links = "".join(f'<a href="/{letter}">x</a>' for letter in "abcdef")
    opened = build_response(links + LONG)
    wall = build_response(WALL, "Set-Cookie: seen=1; Path=/")
    pages = {f"/{letter}": build_response(words(letter)) for letter in "abcdef"}
    answers: dict[str, Answer] = {**pages, "/": lambda head: opened if b"seen" in head else wall}
    assert len(crawl(answers, tmp_path / "five", max_pages=5)[0]) == 5
    assert crawl(answers, tmp_path / "one", max_pages=1)[0] == ["/"]
    answers["/"] = lambda head: (
        opened
        if b"seen" in head
        else build_response("", "Set-Cookie: seen=1", "Location: /", status="302 Found")
    )
    assert len(crawl(answers, tmp_path / "redirects", max_pages=4)[0]) == 4


def test_a_wall_that_does_not_open_is_tried_once_a_site(tmp_path: Path) -> None:
    numbers = itertools.count()

    def closed(head: bytes) -> bytes:
        return build_response(WALL, f"Set-Cookie: n{next(numbers)}=1; Path=/")

    names = [f"/{letter}" for letter in "abcdef"]
    links = "".join(f'<a href="{name}">x</a>' for name in names)
    answers: dict[str, Answer] = {"/": build_response(links + LONG)}
    asked, _ = crawl(answers | dict.fromkeys(names, closed), tmp_path)
    assert len(asked) == len(answers) + len(names) + 1


DELETIONS = [
    "sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "sid=deleted; Path=/; Max-Age=0",
    "sid=x; Path=/; Max-Age=-1; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
    "sid=; Path=/; expires=Thu, 01-Jan-70 00:00:01 GMT",
]


@pytest.mark.parametrize("deletion", DELETIONS)
def test_a_deleted_cookie_is_not_sent_on(tmp_path: Path, deletion: str) -> None:
    heads: dict[str, bytes] = {}

    def page(name: str, link: str, *cookies: str) -> Answer:
        def answer(head: bytes) -> bytes:
            heads[name] = head
            lines = [f"Set-Cookie: {cookie}" for cookie in cookies]
            return build_response(f'<a href="{link}">x</a>{words(name)}', *lines)

        return answer

    answers = {
        "/": page("home", "/a", "sid=1; Path=/", "sid=2; Path=/a", "other=3; Path=/"),
        "/a": page("a", "/b", deletion),
        "/b": page("b", "/a/c"),
        "/a/c": page("c", "/"),
    }
    crawl(answers, tmp_path)
    assert b"sid=1" in heads["a"]
    assert b"sid=1" not in heads["b"]
    assert b"sid" not in heads["b"]
    assert b"other=3" in heads["b"]
    assert b"sid=2" in heads["c"]  # a cookie of another path


def test_a_deletion_takes_away_what_an_earlier_wave_set() -> None:
    jar = CookieJar()
    jar.note_cookies("http://a.example/", [line("s", "1"), line("t", "2")])
    jar.begin_wave()
    sent = jar.cookies_for("http://a.example/")
    changes = find_changes(sent, [line("t", "3")])
    assert set(changes) == {delete_cookie(line("s", "1")), line("t", "3")}
    jar.note_cookies("http://a.example/x", changes)
    jar.begin_wave()
    assert jar.cookies_for("http://a.example/") == [line("t", "3")] == merge_cookies(sent, changes)
    jar.note_cookies("http://a.example/y", [line("s", "4")])
    jar.begin_wave()
    assert jar.cookies_for("http://a.example/") == [line("t", "3"), line("s", "4")]
