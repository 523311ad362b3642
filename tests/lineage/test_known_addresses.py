"""What a person types is found among the addresses that were seen, or what is near is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.lineage.known_addresses import file_address, resolve_address, suggest_addresses

KNOWN = [
    "file:///notes/C%23.md",
    "file:///notes/my%20rows.jsonl#3",
    "file:///notes/a.md",
    "file:///notes/deep/rows.jsonl#3",
    "http://both.example/x",
    "https://both.example/x",
    "http://docs.example/guide/",
    "https://docs.example/guide/start.html",
    "https://docs.example/index.html",
]


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("notes/a.md", "file:///notes/a.md"),
        ("./notes/deep/rows.jsonl#3", "file:///notes/deep/rows.jsonl#3"),
        ("notes/C#.md", "file:///notes/C%23.md"),
        ("notes/my rows.jsonl#3", "file:///notes/my%20rows.jsonl#3"),
        ("Docs.Example/index.html", "https://docs.example/index.html"),
        ("docs.example/guide", "http://docs.example/guide/"),
    ],
)
def test_a_bare_name_is_found_under_its_scheme(given: str, address: str) -> None:
    assert resolve_address(given, KNOWN) == address


def test_what_is_unknown_or_unclear_names_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"both\.example/x: may be https://\S+ or http://\S+ say"):
        resolve_address("both.example/x", KNOWN)
    with pytest.raises(ConfigError, match=r"near: https://docs\.example/index\.html"):
        resolve_address("docs.example/indx.html", KNOWN)
    with pytest.raises(ConfigError, match=r"saw this page; near: file:///notes/a\.md$"):
        resolve_address("a.md", KNOWN)
    assert suggest_addresses("nothing-like-it", KNOWN) == ""


def test_an_order_may_name_what_lies_above_pages() -> None:
    assert resolve_address("notes/deep", KNOWN, or_above=True) == "file:///notes/deep"
    with pytest.raises(ConfigError, match="no crawl of this workspace"):
        resolve_address("notes/deep", KNOWN)
    assert (
        resolve_address("docs.example/guide", KNOWN[7:], or_above=True)
        == "https://docs.example/guide"
    )


def test_a_file_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notes")
    assert file_address("a.md", KNOWN) == "file:///notes/a.md"
    assert file_address(f"{tmp_path}/notes/a.md", KNOWN) == "file:///notes/a.md"
    assert file_address("deep/rows.jsonl#3", KNOWN) == "file:///notes/deep/rows.jsonl#3"
    assert file_address("b.md", KNOWN) is None
    assert file_address("C#.md", KNOWN) == "file:///notes/C%23.md"
