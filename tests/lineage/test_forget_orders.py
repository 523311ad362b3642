"""Orders: one spelling, written once, and refused where they name nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.lineage.forget_orders import (
    normalise_target,
    orders_path,
    read_orders,
    record_order,
    split_targets,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("HTTPS://Docs.Example:443/a b#part", "https://docs.example/a%20b"),
        ("https://docs.example", "https://docs.example/"),
        ("Docs.Example.", "docs.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("file:///notes/a.md", "file:///notes/a.md"),
        ("file:///notes/dump.jsonl#12", "file:///notes/dump.jsonl#12"),
    ],
)
def test_one_spelling(given: str, target: str) -> None:
    assert normalise_target(given) == target
    assert normalise_target(target) == target


@pytest.mark.parametrize(
    "given",
    ["", "word", "a.example/page", "ftp://a.example/", "file:///", "https://u:p@a.example/"],
)
def test_what_names_nothing_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        normalise_target(given)


def test_an_order_stands_once(settings: Settings) -> None:
    assert read_orders(settings) == []
    first, new = record_order(settings, "a.example", "asked by its owner")
    assert new
    second, again = record_order(settings, "a.example", "another reason")
    assert (second, again) == (first, False)
    record_order(settings, "https://b.example/x", "")
    targets = [order.target for order in read_orders(settings)]
    assert targets == ["a.example", "https://b.example/x"]
    assert split_targets(targets) == (["https://b.example/x"], ["a.example"])


def test_a_damaged_line_is_named(settings: Settings) -> None:
    record_order(settings, "a.example", "")
    with orders_path(settings).open("a") as file:
        file.write("{nonsense\n")
    with pytest.raises(DataError, match=r"blocklist\.jsonl:2"):
        read_orders(settings)
