"""An entry covers itself and what is below it, or a domain with its subdomains; nothing beside."""

from __future__ import annotations

import pytest

from components.core.config.blocklist import Blocklist

ENTRIES = (
    "https://a.example/docs/",
    "https://a.example/one.html",
    "file:///notes/dump.jsonl#12",
    "file:///notes/whole.jsonl",
    "bad.example",
)


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://a.example/docs", True),
        ("https://a.example/docs/", True),
        ("https://a.example/docs/x/y", True),
        ("https://a.example/docs?print=1", True),
        ("https://a.example/docsx", False),
        ("https://a.example/", False),
        ("http://a.example/docs/", False),
        ("https://a.example/one.html#part", True),
        ("https://a.example/one.htm", False),
        ("file:///notes/dump.jsonl#12", True),
        ("file:///notes/dump.jsonl#1", False),
        ("file:///notes/dump.jsonl#120", False),
        ("file:///notes/whole.jsonl#7", True),
        ("https://bad.example/x", True),
        ("https://WWW.Bad.example/x", True),
        ("https://notbad.example/x", False),
        ("http://[broken", False),
    ],
)
def test_what_is_covered(url: str, covered: bool) -> None:
    assert Blocklist(ENTRIES).covers(url) is covered


def test_a_whole_site_is_its_root() -> None:
    assert Blocklist(["https://a.example/"]).covers("https://a.example/x")
    assert not Blocklist(["https://a.example/"]).covers("https://a.example.evil/x")
    assert not Blocklist([])
