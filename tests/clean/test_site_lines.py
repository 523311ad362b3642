"""Lines of a site's frame are found over its pages, cut by ``select``, recorded in the ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.clean.pii.score import PiiConfig, score_pii
from components.clean.select import select
from components.clean.site_lines.rule import SiteLineRule
from components.clean.site_lines.score import SiteLinesConfig, find_edge_lines, score_site_lines
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.spans import Span, remove_stretches
from flows.configs.text_run import TextSelectConfig

Maker = Callable[..., Corpus]
Again = Callable[[], Workdir]
OWN = "Page {n} tells of thing {n}, and of nothing else that anybody has ever heard of."


def page(
    n: int, host: str = "docs.example", head: str = "Prev Next", foot: str = "© Acme"
) -> dict[str, object]:
    body = "\n\n".join(f"{OWN.format(n=f'{n}-{k}')}" for k in range(9))
    text = f"{head}\n\n# Thing {n}\n\n{body}\n\nWrite to ann{n}@acme.org now.\n\n{foot}"
    return {"text": text, "url": f"https://{host}/{n}", "headings": [f"Thing {n}"]}


def test_lines_of_head_and_foot_are_those_outside_code() -> None:
    text = "a\n\n b\n```\nc\n```\nd\ne\nf"
    assert [text[s:e] for s, e in find_edge_lines(text, 2, 2)] == ["a", " b", "e", "f"]
    assert list(find_edge_lines("a\nb", 5, 5)) == [(0, 1), (2, 3)]


def test_what_recurs_over_a_site_is_cut_and_its_spans_move(corpus_of: Maker, again: Again) -> None:
    other = [
        page(n, "other.example", f"Head {n}", "© Acme" if n < 4 else f"Foot {n}") for n in range(12)
    ]
    corpus = corpus_of([*(page(n) for n in range(12)), *other])
    scores = score_site_lines(SiteLinesConfig(), corpus, again())
    assert (scores.stats["documents"], scores.stats["with_site_lines"]) == (24, 16)
    rows = read_shards(again().artifact_folder(scores)).to_pylist()
    assert {row["site_documents"] for row in rows} == {12}
    assert {round(line["share"], 2) for row in rows for line in row["lines"]} == {1.0, 0.33}
    given = {"site_lines": scores, "pii": score_pii(PiiConfig(), corpus, again())}
    chosen = select(TextSelectConfig(), corpus, given, again())
    assert chosen.stats["site_lines_cut"] == 24
    kept = {
        row["url"]: row["text"] for row in read_shards(again().artifact_folder(chosen)).to_pylist()
    }
    text = kept["https://docs.example/3"]
    assert text.startswith("# Thing 3\n\nPage 3-0")
    assert text.endswith("Write to <EMAIL_1> now.")
    assert "© Acme" in kept["https://other.example/2"]
    ledger = {
        row["url"]: row
        for row in read_shards(again().artifact_folder(chosen) / "ledger").to_pylist()
    }
    spans = [(s["kind"], s["action"]) for s in ledger["https://docs.example/3"]["spans"]]
    assert spans == [("email", "redact"), ("site_line", "cut"), ("site_line", "cut")]


def test_a_heading_that_every_page_has_goes_from_its_headings(
    corpus_of: Maker, again: Again
) -> None:
    pages = [page(n, head="# The Manual") for n in range(10)]
    for given in pages:
        given["headings"] = ["The Manual", *given["headings"]]  # type: ignore[misc]
    corpus = corpus_of(pages)
    scores = {"site_lines": score_site_lines(SiteLinesConfig(), corpus, again())}
    chosen = select(TextSelectConfig(), corpus, scores, again())
    rows = read_shards(again().artifact_folder(chosen)).to_pylist()
    assert all(row["headings"] == [f"Thing {row['url'][-1]}"] for row in rows)


@pytest.mark.parametrize(
    ("count", "rules", "cut_lines"),
    [
        (9, SiteLineRule(), 0),  # too few pages say nothing
        (10, SiteLineRule(), 20),
        (10, SiteLineRule(max_cut=0.0), 0),
        (9, SiteLineRule(min_documents=9), 18),
    ],
)
def test_bounds(
    corpus_of: Maker, again: Again, count: int, rules: SiteLineRule, cut_lines: int
) -> None:
    corpus = corpus_of([page(n) for n in range(count)])
    scores = {"site_lines": score_site_lines(SiteLinesConfig(), corpus, again())}
    chosen = select(TextSelectConfig(site_lines=rules), corpus, scores, again())
    assert chosen.stats["site_lines_cut"] == cut_lines


def test_cut() -> None:
    text = "one two three four"
    spans = [Span(0, 3, "a"), Span(6, 10, "b"), Span(14, 18, "c")]
    assert remove_stretches(text, [(4, 8)], spans) == (
        "one three four",
        [Span(0, 3, "a"), Span(10, 14, "c")],
    )
    assert remove_stretches(text, [], spans) == (text, spans)
    assert remove_stretches(text, [(0, 18)], spans) == ("", [])
