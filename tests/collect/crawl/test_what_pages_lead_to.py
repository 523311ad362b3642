"""Crawls of what pages lead to: refreshes as redirects, frames, series, addresses like files."""

from __future__ import annotations

from typing import Any

from components.collect.scrape import scrape
from components.core.store.workdir import Workdir
from tests.collect.crawling import asked, config, ledger, stored, words

REFRESH = '<meta http-equiv="refresh" content="0; URL={}">'


def test_a_refresh_is_followed_like_a_redirect(work: Workdir, web: Any) -> None:
    web.pages |= {
        "/": '<a href="/old">x</a><a href="/loop1">y</a><a href="/read">z</a>' + words("home"),
        "/old": REFRESH.format("/new"),
        "/new": words("new"),
        "/loop1": REFRESH.format("/loop2"),
        "/loop2": REFRESH.format("/loop1"),
        "/read": REFRESH.format("/later") + words("read"),
        "/later": words("later"),
    }
    result = scrape(config(web), work)
    rows = ledger(work, result)
    assert rows["old"]["reason"] == f"redirects to {web.url}/new"
    assert rows["loop2"]["reason"] == "redirects in a loop"
    assert {url.removeprefix(web.url) for url in stored(work, result)} == {
        "/",
        "/new",
        "/read",
        "/later",
    }


def test_frames_series_and_addresses_like_files_are_asked(work: Workdir, web: Any) -> None:
    frames = '<frameset cols="20%,80%"><frame src="/nav"><frame src="/main"></frameset>'
    web.pages |= {
        "/": '<link rel="next" href="/2"><a href="/f">f</a><a href="/wiki/Node.js">n</a>'
        '<a href="/blob/logo.png">l</a>' + words("home"),
        "/2": words("two"),
        "/f": f"<html><head><title>f</title></head>{frames}</html>",
        "/nav": words("nav"),
        "/main": words("main"),
        "/wiki/Node.js": words("node"),
        "/blob/logo.png": (200, {"Content-Type": "image/png"}, b"\x89PNG\r\n"),
    }
    rows = ledger(work, scrape(config(web), work))
    assert set(asked(web)) == set(web.pages)
    assert not rows["wiki/Node.js"]["reason"]
    assert rows["blob/logo.png"]["reason"] == "no page: image/png"
