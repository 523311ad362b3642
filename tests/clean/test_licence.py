"""Signs of a licence are read as SPDX identifiers, with the words they stand in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.clean.licence.rule import LicenceRule
from components.clean.licence.score import LicenceConfig, score_licence, score_licence_shard
from components.clean.select import select
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.licence_signs import find_licences
from flows.configs.text_run import TextSelectConfig


@pytest.mark.parametrize(
    ("text", "kind", "licence"),
    [
        ("// SPDX-License-Identifier: MIT OR Apache-2.0", "declared", "MIT OR Apache-2.0"),
        (
            '<a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">x</a>',
            "declared",
            "CC-BY-SA-4.0",
        ),
        ('{"license": "https://example.org/terms"}', "declared", "LicenseRef-other"),
        ("see https://creativecommons.org/licenses/by-nc-nd/3.0/us/", "linked", "CC-BY-NC-ND-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "linked", "CC0-1.0"),
        ("This work is CC BY-NC 4.0.", "stated", "CC-BY-NC-4.0"),
        (
            "a Creative Commons Attribution-NonCommercial-ShareAlike 2.5 licence",
            "stated",
            "CC-BY-NC-SA-2.5",
        ),
        ("Released under the terms of the GNU General Public License v3", "stated", "GPL-3.0"),
        ("The code is licensed under the MIT License.", "stated", "MIT"),
        ("© 2024 Acme. All rights reserved.", "reserved", "LicenseRef-all-rights-reserved"),
    ],
)
def test_read(text: str, kind: str, licence: str) -> None:
    assert [(sign.kind, sign.licence) for sign in find_licences(text)] == [(kind, licence)]


@pytest.mark.parametrize(
    "text",
    ["a driving license", "MIT researchers say", "the file is available under /usr", "cc by post"],
)
def test_not_read(text: str) -> None:
    assert find_licences(text) == []


@pytest.mark.parametrize(
    "unit", ["licensed under ", '<a rel="license ', "Creative Commons Attribution NonCommercial "]
)
def test_no_text_takes_more_than_a_moment(unit: str) -> None:
    """What goes over all it found for each sign would outlast the test's time."""
    assert len(find_licences(unit * 60_000)) <= 60_000


def test_the_strongest_sign_counts_and_select_can_drop_by_it(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    page = "We like the MIT School. This text is licensed under CC BY-NC 4.0, they say. "
    corpus = corpus_of(
        [
            {"text": page, "navigation": "https://creativecommons.org/licenses/by/4.0/"},
            {"text": page + "2", "navigation": ""},
            {"text": "nothing at all is said here"},
        ]
    )
    scores = score_licence(LicenceConfig(), corpus, again())
    assert (scores.stats["licensed"], scores.stats["unlicensed"]) == (2, 1)
    table = {r["licence"]: r for r in read_shards(again().artifact_folder(scores)).to_pylist()}
    assert set(table) == {"CC-BY-4.0", "CC-BY-NC-4.0", ""}
    first, second = table["CC-BY-4.0"]["evidence"]
    assert (first["field"], first["kind"]) == ("navigation", "linked")
    assert page[second["start"] : second["end"]] == second["raw"]
    assert not table["CC-BY-4.0"]["conflicting"]
    config = TextSelectConfig(licence=LicenceRule(forbidden=("CC-BY-NC*",)))
    chosen = select(config, corpus, {"licence": scores}, again())
    ledger = {
        r["url"][-1]: r for r in read_shards(again().artifact_folder(chosen) / "ledger").to_pylist()
    }
    assert [ledger[n]["reasons"] for n in "012"] == [[], ["licence"], []]
    assert [ledger[n]["licence"] for n in "012"] == ["CC-BY-4.0", "CC-BY-NC-4.0", None]
    strict = TextSelectConfig(licence=LicenceRule(required=True))
    assert select(strict, corpus, {"licence": scores}, again()).stats["kept"] == 2


def test_what_a_page_declares_counts_with_its_words(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    """The columns that extraction fills from a page's HTML, which its text has lost."""
    by = "https://creativecommons.org/licenses/by/4.0/"
    tag = f'<link rel="license" href="{by}">'
    corpus = corpus_of(
        [
            {"text": "Some say it is licensed under MIT.", "licence": by, "licence_source": tag},
            {"text": "b", "licence": by, "licence_source": f'<a href="{by}">'},
            {"text": "c", "licence": "https://a.example/terms"},  # of a corpus from elsewhere
            {"text": "d", "licence": "MIT", "licence_source": '{"license": "MIT"}'},
            {"text": "e", "licence": "/terms", "licence_source": '<a rel="license" href="/terms">'},
            {"text": "f", "licence": None, "licence_source": None},
            {
                "text": "g",
                "licence": "/by",
                "licence_source": '<link rel="license" href="/by">\n'
                '<meta name="dc.rights" content="All rights reserved">',
            },
        ]
    )
    scores = score_licence(LicenceConfig(), corpus, again())
    rows = read_shards(again().artifact_folder(scores)).to_pylist()
    urls = {r["id"]: r["url"][-1] for r in read_shards(again().artifact_folder(corpus)).to_pylist()}
    found = {urls[row["id"]]: row for row in rows}
    assert [found[n]["licence"] for n in "0123456"] == [
        "CC-BY-4.0",
        "CC-BY-4.0",
        "LicenseRef-other",
        "MIT",
        "LicenseRef-other",
        "",
        "LicenseRef-other",
    ]
    strongest = [found[n]["evidence"][0] for n in "012346"]
    assert [(sign["field"], sign["kind"]) for sign in strongest] == [
        ("licence_source", "declared"),
        ("licence_source", "linked"),
        ("licence", "declared"),
        ("licence", "declared"),
        ("licence", "declared"),
        ("licence", "declared"),
    ]
    assert strongest[0]["raw"] == tag
    assert strongest[2]["raw"] == "https://a.example/terms"
    assert found["0"]["evidence"][1]["kind"] == "stated"


def test_a_corpus_without_the_columns_is_scored_by_its_text(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus = corpus_of([{"text": "licensed under CC BY 4.0"}])
    table = read_shards(again().artifact_folder(corpus)).drop_columns(["licence", "licence_source"])
    assert score_licence_shard(table, 20)["licence"].to_pylist() == ["CC-BY-4.0"]
