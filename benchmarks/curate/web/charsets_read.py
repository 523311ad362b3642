"""Shares of pages in the charsets of the web that a crawl reads right, beside other clients.

A page is read right where its whole passage stands in a text. Scrapy crawls the same site with its
defaults, requests fetches each address by itself; both decode by their own rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.web.charset_situations import CharsetPage, list_charset_pages
from benchmarks.curate.web.http_situations import build_response
from benchmarks.curate.web.raw_site import open_raw_site
from benchmarks.curate.web.situations_read import crawl_site


def measure_charsets(setting: BenchSetting) -> list[BenchFigure]:
    """Declared and undeclared pages that are read right, and by peers."""
    pages = list_charset_pages()
    links = "".join(f'<a href="{page.target}">x</a>' for page in pages)
    answers = {page.target: page.response for page in pages}
    addresses = setting.scratch / "charsets.json"
    with open_raw_site({"/": build_response(links), **answers}) as site:
        setting.on_progress("web: charsets")
        texts, _ = crawl_site(setting, site)
        addresses.write_text(json.dumps([f"{site.url}{page.target}" for page in pages]))
        peers = {
            "Scrapy": setting.run_peer("scrapy_crawl", "scrapy", f"{site.url}/"),
            "requests": setting.run_peer("http_clients", "requests", "requests", str(addresses)),
        }
    figures = []
    for kind, chosen in (
        ("declare their charset", [page for page in pages if page.is_declared]),
        ("declare none", [page for page in pages if not page.is_declared]),
    ):
        name = f"web: pages read right, of {len(chosen)} that {kind}"
        unread = find_unread(chosen, texts)
        ours = len(chosen) - len(unread)
        figures.append(
            BenchFigure.against_target(
                name,
                ours,
                "",
                len(chosen),
                better="higher",
                note=f"not: {', '.join(page.name for page in unread)}" if unread else "",
            )
        )
        for peer, answer in peers.items():
            count = len(chosen) - len(find_unread(chosen, answer["texts"])) if answer else None
            figures.append(
                BenchFigure.beside_peer(name, ours, "", peer, count, True, better="higher")
            )
    return figures


def find_unread(pages: Sequence[CharsetPage], texts: Iterable[str]) -> list[CharsetPage]:
    """Pages whose passage stands in none of the texts."""
    whole = " ".join(" ".join(texts).split())
    return [page for page in pages if page.passage not in whole]
