"""Cookies set on the way: sent from the next wave on, the same after a kill, to whom they belong."""

from __future__ import annotations

import gzip
import signal
from pathlib import Path
from threading import Event

from benchmarks.curate.web.http_situations import build_response
from benchmarks.curate.web.raw_site import Answer, RawSite, open_raw_site
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.web.cookie_jar import MAX_COOKIES_PER_DOMAIN, CookieJar
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, ledger, start_crawl, words


def line(domain: str, name: str, value: str, path: str = "/") -> str:
    return f"{domain}\tTRUE\t{path}\tFALSE\t0\t{name}\t{value}"


def test_cookies_count_from_the_next_wave_on_in_the_order_of_urls() -> None:
    jar = CookieJar()
    jar.note_cookies("http://www.a.example/2", [line(".a.example", "s", "later")])
    jar.note_cookies("http://www.a.example/1", [line(".a.example", "s", "sooner")])
    assert jar.cookies_for("http://www.a.example/") == []
    jar.begin_wave()
    assert jar.cookies_for("http://deep.www.a.example/") == [line(".a.example", "s", "later")]
    assert jar.cookies_for("http://b.example/") == []


def test_a_domain_has_so_many_cookies() -> None:
    jar = CookieJar()
    many = [line("a.example", f"n{n}", "v") for n in range(MAX_COOKIES_PER_DOMAIN + 20)]
    jar.note_cookies("http://a.example/", many)
    jar.begin_wave()
    assert jar.cookies_for("http://a.example/") == many[20:]


def session_site() -> dict[str, Answer]:
    """A site whose home page opens a session that every other page asks for."""
    links = "".join(f'<a href="/p{n}">x</a>' for n in range(9))
    home = build_response(links + LONG, "Set-Cookie: sid=7; Path=/; HttpOnly")

    def page(number: int) -> Answer:
        inside = build_response(words(f"inside{'abcdefghi'[number]}"))
        refused = build_response("", status="403 Forbidden")
        return lambda head: inside if b"sid=7" in head else refused

    return {"/": home, **{f"/p{n}": page(n) for n in range(9)}}


def crawl_config(site: RawSite) -> ScrapeConfig:
    return ScrapeConfig(
        as_of=NOW,
        seeds=[f"{site.url}/"],
        allow_private=True,
        delay_seconds=0,
        retries=0,
        max_failed_share=1,
        shards=1,
    )


def test_a_session_opened_by_the_home_page_leads_on(tmp_path: Path) -> None:
    with open_raw_site(session_site()) as site:
        work = Workdir.temporary(tmp_path)
        pages = scrape(crawl_config(site), work)
    assert pages.stats["pages"] == 10
    assert all(not row["reason"] for row in ledger(work, pages).values())


def test_a_crawl_that_goes_on_after_a_kill_has_the_cookies_of_the_first_try(tmp_path: Path) -> None:
    reached, ended = Event(), Event()
    answers = session_site()
    inside = answers["/p3"]

    def hang(head: bytes) -> bytes:
        reached.set()
        ended.wait(60)
        assert callable(inside)
        return inside(head)

    with open_raw_site({**answers, "/p3": hang}) as site:
        config = crawl_config(site)
        with start_crawl(tmp_path / "store", config) as first:
            assert reached.wait(60)
            first.send_signal(signal.SIGKILL)
            first.wait()
        ended.set()
        site.requests.clear()
        with start_crawl(tmp_path / "store", config) as second:
            digest = second.communicate(timeout=60)[0].strip()
        assert "/" not in site.targets  # it was stored, and so were its cookies
        whole = Workdir.temporary(tmp_path / "whole")
        pages = scrape(config, whole)
    assert pages.digest == digest
    assert pages.stats["pages"] == 10
    archives = whole.artifact_folder(pages).glob("*.warc.gz")
    assert all(b"sid=7" not in gzip.decompress(archive.read_bytes()) for archive in archives)


def test_a_cookie_of_another_domain_is_not_taken(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def note(head: bytes) -> bytes:
        seen.append(head)
        return build_response(words("noted"))

    evil = "Set-Cookie: a=1; Domain=example.com", "Set-Cookie: c=3; Path=/"
    answers: dict[str, Answer] = {
        "/": build_response(f'<a href="/next">x</a>{LONG}', *evil),
        "/next": note,
    }
    with open_raw_site(answers) as site:
        scrape(crawl_config(site), Workdir.temporary(tmp_path))
    assert [head for head in seen if b"a=1" in head] == []
    assert b"Cookie: c=3" in seen[0]
