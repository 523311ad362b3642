"""One place decides; the ledger says why; nothing is dropped for what is not kept."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from components.clean.duplicates.rule import DuplicateRule
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.clean.language.score import LanguageConfig, score_language
from components.clean.language.train_languages import LanguageModelConfig, train_languages
from components.clean.passages.score import PassagesConfig, score_passages
from components.clean.pii.rule import PiiRule
from components.clean.pii.score import PiiConfig, score_pii
from components.clean.quality.rule import QualityRule
from components.clean.quality.score import QualityConfig, score_quality
from components.clean.select import select
from components.core.errors import ConfigError, DataError
from components.core.stats.source_losses import SOURCES_FILE, AlarmConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import read_shards, shard_paths
from components.core.store.workdir import Workdir
from components.text.pii.find_pii import find_pii_spans
from components.text.pii.redact import Redactor
from components.text.spans import Span
from flows.configs.text_run import TextSelectConfig

Again = Callable[[], Workdir]
Maker = Callable[..., Corpus]


def scored(corpus: Corpus, again: Again, *roles: str) -> dict[str, Scores]:
    makers: Mapping[str, Callable[[], Scores]] = {
        "language": lambda: score_language(
            LanguageConfig(), corpus, train_languages(LanguageModelConfig(), again()), again()
        ),
        "quality": lambda: score_quality(QualityConfig(), corpus, again()),
        "pii": lambda: score_pii(PiiConfig(), corpus, again()),
        "duplicates": lambda: score_duplicates(DuplicatesConfig(), corpus, again()),
        "passages": lambda: score_passages(PassagesConfig(), corpus, again()),
    }
    return {role: makers[role]() for role in roles or makers}


def read(corpus: Corpus, again: Again) -> tuple[dict[str, Any], dict[str, Any]]:
    """(kept documents, ledger), each by url."""
    folder = again().artifact_folder(corpus)
    kept = {row["url"]: row for row in read_shards(folder).to_pylist()}
    return kept, {row["url"]: row for row in read_shards(folder / "ledger").to_pylist()}


def words(seed: int, count: int = 120) -> list[str]:
    draw = random.Random(seed)
    return [f"word{draw.randrange(4000)}" for _ in range(count)]


def test_what_is_written_without_spaces_is_not_judged_by_its_words(
    corpus_of: Maker, again: Again
) -> None:
    draw = random.Random(0)
    signs = "春夏秋冬山川草木日月星雨風雪花鳥魚虫人口手足目耳心言食飲行来見聞読書話学校友家道車電気"
    chinese = ["".join(draw.choice(signs + "，。") for _ in range(600)) for _ in range(4)]
    mixed = chinese[0] + " with some English words " + "and one with" + "out" * 30
    corpus = corpus_of([*chinese, mixed, "x" * 600], shards=2)
    config = TextSelectConfig(quality=QualityRule(min_stop_words=2, max_mean_word_length=10))
    chosen = select(config, corpus, scored(corpus, again, "quality"), again())
    kept, ledger = read(chosen, again)
    assert len(kept) == 5
    assert "quality.mean_word_length" in ledger["https://docs.example/0005"]["reasons"]


def test_every_document_is_in_the_ledger(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of(["far too short", *(" ".join(words(n)) for n in range(12))], shards=3)
    chosen = select(TextSelectConfig(), corpus, scored(corpus, again), again())
    kept, ledger = read(chosen, again)
    assert len(ledger) == 13
    assert len(kept) == 12
    short = ledger["https://docs.example/0000"]
    assert (short["kept"], short["reasons"]) == (False, ["quality.words"])
    rule = next(rule for rule in short["rules"] if rule["rule"] == "quality.words")
    assert rule == {
        "rule": "quality.words",
        "score": 3.0,
        "at_least": 10.0,
        "at_most": 1_000_000.0,
        "passed": False,
    }
    assert all(row["kept"] == (url in kept) for url, row in ledger.items())
    assert {rule["rule"] for rule in short["rules"]} >= {"blocked", "language", "pii.density"}
    assert (chosen.stats["kept"], chosen.stats["dropped"]) == (12, 1)
    assert chosen.stats["dropped_by_quality.words"] == 1
    folder = again().artifact_folder(chosen)
    assert [p.name for p in shard_paths(folder)] == [p.name for p in shard_paths(folder / "ledger")]


def test_kept_documents_are_whole_and_in_order(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of([" ".join(words(n)) for n in range(10)], shards=2)
    chosen = select(TextSelectConfig(), corpus, scored(corpus, again), again())
    before, after = (read_shards(again().artifact_folder(c)) for c in (corpus, chosen))
    assert after.equals(before)


def test_redaction_replaces_the_same_value_alike(corpus_of: Maker, again: Again) -> None:
    text = (
        "👍 Größe: ask ada@analytical.org or bob@analytical.org, then ada@analytical.org again; "
        "never user@example.com. Host 81.2.69.142 and 127.0.0.1 are the two hosts of this page."
    )
    page = {
        "text": text,
        "title": "Ask ada@analytical.org",
        "navigation": "Mail eve@analytical.org",
        "headings": ["On bob@analytical.org"],
        "code": ["send('ada@analytical.org')"],
    }
    corpus = corpus_of([page])
    chosen = select(TextSelectConfig(), corpus, scored(corpus, again, "pii"), again())
    kept, ledger = read(chosen, again)
    (document,) = kept.values()
    assert document["text"] == (
        "👍 Größe: ask <EMAIL_1> or <EMAIL_2>, then <EMAIL_1> again; "
        "never user@example.com. Host <IP_1> and 127.0.0.1 are the two hosts of this page."
    )
    assert document["title"] == "Ask <EMAIL_1>"
    assert document["navigation"] == "Mail <EMAIL_3>"
    assert (document["headings"], document["code"]) == (["On <EMAIL_2>"], ["send('<EMAIL_1>')"])
    (row,) = ledger.values()
    marked = [(text[s["start"] : s["end"]], s["action"]) for s in row["spans"]]
    assert ("user@example.com", "keep") in marked
    assert marked.count(("ada@analytical.org", "redact")) == 2
    assert chosen.stats["redacted_email"] == 3


def test_each_kind_has_a_policy_of_its_own(corpus_of: Maker, again: Again) -> None:
    filler = " ".join(words(1))
    corpus = corpus_of(
        [
            f"ask ada@analytical.org {filler}",
            f"pay with 4539 1488 0343 6467 {filler} one",
            f"host 81.2.69.142 {filler} two",
        ]
    )
    rules = PiiRule(email="keep", card="drop")
    chosen = select(TextSelectConfig(pii=rules), corpus, scored(corpus, again, "pii"), again())
    kept, ledger = read(chosen, again)
    assert "ada@analytical.org" in kept["https://docs.example/0000"]["text"]
    assert ledger["https://docs.example/0001"]["reasons"] == ["pii.forbidden"]
    assert "<IP_1>" in kept["https://docs.example/0002"]["text"]


def test_a_page_full_of_addresses_is_dropped(corpus_of: Maker, again: Again) -> None:
    listing = " ".join(f"member {n} m{n}@analytical.org" for n in range(80))
    corpus = corpus_of([listing, " ".join(words(1))])
    chosen = select(TextSelectConfig(), corpus, scored(corpus, again, "pii"), again())
    _, ledger = read(chosen, again)
    assert ledger["https://docs.example/0000"]["reasons"] == ["pii.density"]


def chain() -> list[dict[str, Any]]:
    """A ~ B ~ C, where A and C are no twins: by ordinal A, B, C."""
    a = words(5, 400)
    b = [*a[:-40], *words(6, 40)]
    c = [*words(7, 40), *b[40:]]
    return [
        {"text": " ".join(text), "ordinal": n, "url": f"https://docs.example/{name}"}
        for n, (name, text) in enumerate(zip("abc", (a, b, c), strict=True))
    ]


def test_a_twin_is_dropped_only_for_a_kept_one(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of(chain())
    scores = scored(corpus, again, "duplicates", "pii")
    kept, ledger = read(select(TextSelectConfig(), corpus, scores, again()), again)
    assert sorted(url[-1] for url in kept) == ["a", "c"]  # B fell for A, so C has no kept twin
    dropped = ledger["https://docs.example/b"]
    assert dropped["reasons"] == ["duplicates"]
    assert dropped["duplicate_of"] == kept["https://docs.example/a"]["id"]
    assert 0.8 <= dropped["similarity"] < 1
    blocked = TextSelectConfig(blocked_urls=("https://docs.example/a/",))
    kept, ledger = read(select(blocked, corpus, scores, again()), again)
    assert sorted(url[-1] for url in kept) == ["b"]  # A left by another rule, B may stay
    assert ledger["https://docs.example/c"]["duplicate_of"] == kept["https://docs.example/b"]["id"]


def test_exact_copies_leave_one_and_increments_agree(corpus_of: Maker, again: Again) -> None:
    text = " ".join(words(9))
    pages = [
        {"text": text, "ordinal": 1, "url": "https://docs.example/new"},
        {"text": text, "ordinal": 0, "url": "https://docs.example/old"},
        {"text": text.upper(), "ordinal": 2, "url": "https://docs.example/loud"},
    ]
    corpus = corpus_of(pages)
    kept, ledger = read(
        select(TextSelectConfig(), corpus, scored(corpus, again, "duplicates"), again()), again
    )
    assert list(kept) == ["https://docs.example/old"]
    assert ledger["https://docs.example/new"]["similarity"] == 1.0
    first = corpus_of(pages[:2])
    kept, _ = read(
        select(TextSelectConfig(), first, scored(first, again, "duplicates"), again()), again
    )
    assert list(kept) == ["https://docs.example/old"]


def test_thresholds_change_without_scoring_again(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of(chain())
    scores = scored(corpus, again, "duplicates")
    lax = TextSelectConfig(duplicates=DuplicateRule(max_similarity=0.999))
    assert select(lax, corpus, scores, again()).stats["kept"] == 3
    assert select(TextSelectConfig(), corpus, scores, again()).stats["kept"] == 2


def test_languages(corpus_of: Maker, again: Again) -> None:
    english = "This is what the function returns when it was given the name of a file. " * 9
    german = "Das gibt die Funktion zurück, wenn ihr der Name einer Datei gegeben wurde. " * 9
    corpus = corpus_of([english, german, "Kurz und knapp."])
    scores = scored(corpus, again, "language")
    _, ledger = read(select(TextSelectConfig(), corpus, scores, again()), again)
    assert [ledger[f"https://docs.example/000{n}"]["kept"] for n in range(3)] == [True, False, True]
    assert ledger["https://docs.example/0001"]["reasons"] == ["language", "language.share"]


def test_domains_are_blocked_with_their_subdomains(corpus_of: Maker, again: Again) -> None:
    urls = ("https://a.bad.example/x", "https://bad.example/", "https://notbad.example/")
    corpus = corpus_of([{"text": " ".join(words(n)), "url": url} for n, url in enumerate(urls)])
    chosen = select(TextSelectConfig(blocked_domains=("bad.example",)), corpus, {}, again())
    kept, ledger = read(chosen, again)
    assert list(kept) == ["https://notbad.example/"]
    assert ledger[urls[0]]["reasons"] == ["blocked"]


def test_nothing_left_names_the_rule(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of(["one two", "three four", " ".join(words(1, 30))])
    config = TextSelectConfig(quality=QualityRule(min_words=50))
    work = again()
    with pytest.raises(DataError, match=r"no document is left of 3; rule quality\.words took most"):
        select(config, corpus, scored(corpus, again), work)
    with pytest.raises(DataError, match="the corpus holds no document"):
        select(config, corpus_of([]), {}, again())


def test_unknown_scores_are_refused(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of(["x"])
    scores = scored(corpus, again, "pii")
    with pytest.raises(ConfigError, match="no rule reads scores 'novelty'"):
        select(TextSelectConfig(), corpus, {"novelty": scores["pii"]}, again())


def test_scores_of_another_corpus_are_refused(corpus_of: Maker, again: Again) -> None:
    ours, theirs = corpus_of(["a b c"]), corpus_of(["d e f"])
    with pytest.raises(DataError, match="other ids"):
        select(TextSelectConfig(), ours, scored(theirs, again, "pii"), again())


def test_equal_input_gives_equal_bytes(corpus_of: Maker, again: Again) -> None:
    corpus = corpus_of([" ".join(words(n)) + " ask ada@analytical.org" for n in range(9)])
    scores = scored(corpus, again)
    digests = {select(TextSelectConfig(), corpus, scores, again()).digest for _ in range(2)}
    assert len(digests) == 1


def test_a_redactor_leaves_what_is_not_wanted() -> None:
    redactor = Redactor(frozenset(["email"]))
    text = "a@b.org 81.2.69.142"
    assert redactor.replace(text, find_pii_spans(text)) == "<EMAIL_1> 81.2.69.142"
    assert redactor.replace("x", [Span(0, 1, "ip")]) == "x"


def test_a_page_inside_an_older_kept_page_is_dropped_for_it(corpus_of: Maker, again: Again) -> None:
    older, lost = words(1, 600), words(2, 600)
    corpus = corpus_of(
        [
            {"text": " ".join(older), "url": "https://a.example/older"},
            {"text": " ".join(lost) + " far too much", "url": "https://b.example/lost"},
            {"text": " ".join(older[100:400]), "url": "https://a.example/inside", "ordinal": 1},
            {"text": " ".join(lost[100:400]), "url": "https://a.example/stays", "ordinal": 1},
        ]
    )
    config = TextSelectConfig(blocked_domains=("b.example",))
    chosen = select(config, corpus, scored(corpus, again), again())
    kept, ledger = read(chosen, again)
    assert set(kept) == {"https://a.example/older", "https://a.example/stays"}
    inside = ledger["https://a.example/inside"]
    assert inside["reasons"] == ["passages"]
    assert inside["duplicate_of"] == kept["https://a.example/older"]["id"]
    assert inside["similarity"] > inside["max_similarity"] == 0.8


def test_a_source_that_loses_too_much_is_told_aloud(
    corpus_of: Maker, again: Again, caplog: pytest.LogCaptureFixture
) -> None:
    good = [{"text": " ".join(words(n)), "url": f"https://good.example/{n}"} for n in range(5)]
    bad = [{"text": "short", "url": f"https://bad.example/{n}"} for n in range(5)]
    corpus = corpus_of([*good, *bad])
    config = TextSelectConfig(alarm=AlarmConfig(share=0.8, documents=5))
    chosen = select(config, corpus, scored(corpus, again, "quality"), again())
    assert chosen.stats["alarms"] == 1
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("bad.example lost 5 of 5 documents in select, mostly by 'quality.words")
    rows = json.loads((again().artifact_folder(chosen) / SOURCES_FILE).read_text())
    assert [(row["source"], row["dropped"], row["alarm"]) for row in rows] == [
        ("bad.example", 5, True),
        ("good.example", 0, False),
    ]
