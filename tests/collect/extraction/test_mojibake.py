"""Mojibake: mended where no language writes such a thing, recorded, and all else left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.collect.extract import MENDED_FILE, ExtractConfig, extract
from components.collect.extraction.mojibake import mend_mojibake
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from tests.collect.test_extract import PROSE, documents, pages_of


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("Itâ€™s a cafÃ© â€“ â€œgoodâ€\x9d prices.", "It’s a café – “good” prices."),
        ("lâ€™Ã¢ge Ã¢gÃ© du chÃ¢teau", "l’âge âgé du château"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир"),
        ("p, q, â\x80¦ \u00e2\x86\x92 r", "p, q, … → r"),
        ("ÃƒÂ©tÃƒÂ©", "été"),
        ("10Â°C and Â© Acme", "10°C and © Acme"),
        ("lost\ufffd\ufffds but itâ€™s here", "lost\ufffd\ufffds but it’s here"),
        ("first\nsecond â€“ line\n\n- cafÃ©", "first\nsecond – line\n\n- café"),
    ],
)
def test_broken_texts(broken: str, text: str) -> None:
    mended, lines = mend_mojibake(broken)
    assert mended == text
    assert lines == sum(a != b for a, b in zip(broken.split("\n"), text.split("\n"), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "L’Été À LA «\xa0PLAGE\xa0» — naïve “x” … œuvre ÄÖÜ ß",
        "©®™€ £5 ½ × ° § ¶",
        'ＡＢ ﬁne it\'s "straight" &eacute; &amp;',
        "Привет, мир. 今天天气很好。日本語のページです。",
        "I saw Ã¤ instead of ä, and Ã© instead of é.",
        "man\ufffd\ufffds genius",
        "Ñ‚ÐµÑÑ‚",  # a byte is lost: half of it mended would be no better
        "Tiếng Việt: quyền của con người; Português: pãezinhos, AÇÃO",
        "e\u0301 and é: two spellings",
    ],
)
def test_texts_that_are_right_or_beyond_repair_stay(text: str) -> None:
    assert mend_mojibake(text) == (text, 0)


def test_a_document_is_mended_and_recorded(tmp_path: Path) -> None:
    heading = "CafÃ© menu"
    body = f"<p>Itâ€™s good. {PROSE}</p><p>Priceâ€”low. {PROSE}</p><p>All is well. {PROSE}</p>"
    pages = {
        "http://a.example/broken": f"<title>t</title><main><h1>{heading}</h1>{body}</main>",
        "http://a.example/right": f"<main><h1>Café</h1><p>It’s good. {PROSE}</p></main>",
    }
    works = [Workdir.temporary(tmp_path / "store") for _ in range(2)]
    corpora = [extract(ExtractConfig(shards=1), pages_of(tmp_path, dict(pages)), w) for w in works]
    assert corpora[0].digest == corpora[1].digest
    assert corpora[0].stats["mended"] == 1
    rows = {row["url"][-6:]: row for row in documents(works[0], corpora[0])}
    assert "It’s good." in rows["broken"]["text"]
    assert "Price—low." in rows["broken"]["text"]
    assert "Café menu" in [*rows["broken"]["headings"], rows["broken"]["title"]]
    mended = read_shard(works[0].artifact_folder(corpora[0]) / MENDED_FILE).to_pylist()
    assert mended == [{"id": rows["broken"]["id"], "url": "http://a.example/broken", "lines": 3}]


def test_a_corpus_without_mojibake_has_no_such_file(tmp_path: Path) -> None:
    work = Workdir.temporary(tmp_path / "store")
    corpus = extract(
        ExtractConfig(), pages_of(tmp_path, {"http://a.example/": f"<main>{PROSE}</main>"}), work
    )
    assert corpus.stats["mended"] == 0
    assert not (work.artifact_folder(corpus) / MENDED_FILE).exists()
