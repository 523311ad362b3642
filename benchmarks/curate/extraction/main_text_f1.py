"""Word F1 and speed of main-text extraction, beside trafilatura and resiliparse.

Three sets of pages with a known answer. ``extraction-web`` has pages of seven types, scored by the
words that a page's text shares with the true one; rules were tuned on one half of its sites, so
the other half is reported separately. ``extraction`` has articles, scored by runs of four words.
``faults`` has a small page for each situation that a public bug report describes. trafilatura and
resiliparse read the same pages.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from tld import get_fld

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.extraction import manual_pages, reported_faults
from benchmarks.curate.extraction.peer_extractors import (
    RESILIPARSE,
    TRAFILATURA,
    TRAFILATURA_FAST,
    measure_rates,
    run_extractors,
)
from benchmarks.curate.extraction.shingle_f1 import average_scores, format_scores, score_pages
from components.collect.extraction.main_text import extract_main_text
from components.collect.web.charset import decode_page

LEAST_OVERALL = -0.005
"""Lower confidence bound of our F1 less trafilatura's, over all pages of the web set."""
LEAST_ARTICLES = -0.003
"""F1 less trafilatura's, over the articles."""
LEAST_SPEED = 0.7
"""Share of trafilatura's pages a second on mixed pages: our extraction runs it as one step."""
RESAMPLES = 2_000
_WORD = re.compile(r"\w+")
_MARKS = re.compile(r"[#*`|>~]|^\s*-{3,}|\\(?=[*_#])", re.MULTILINE)
"""Markup of Markdown, which is not counted as words."""
Texts = Mapping[str, str]


def measure_extraction(setting: BenchSetting) -> list[BenchFigure]:
    """Figures on web pages, articles, reported faults and manuals."""
    return [
        *_measure_web_pages(setting),
        *_measure_articles(setting),
        *reported_faults.measure_faults(setting, extract_document_text),
        *manual_pages.measure_manuals(setting),
    ]


def extract_document_text(page: str, kind: str = "text/html") -> str:
    """Headline and text as the extract stage writes them; empty where it rejects the page."""
    try:
        main_text = extract_main_text(page, kind, "")
    except ValueError:
        return ""
    return f"# {main_text.headline}\n\n{main_text.text}" if main_text.headline else main_text.text


def word_f1(text: str, truth: str) -> float:
    """F1 of the words of two texts as multisets, markup of Markdown left out."""
    words = Counter(_WORD.findall(_MARKS.sub(" ", text).lower()))
    true_words = Counter(_WORD.findall(truth.lower()))
    common = (words & true_words).total()
    return (
        2 * common / (words.total() + true_words.total())
        if common
        else float(not words and not true_words)
    )


def registrable_domain(url: str) -> str:
    """The registrable domain of an address, as far as the public suffix list knows it."""
    return get_fld(url, fail_silently=True) or urlsplit(url).hostname or url


def site_half(site: str) -> int:
    """0 for the half of sites that rules were tuned on, 1 for the other half."""
    return int(hashlib.sha256(site.encode()).hexdigest(), 16) % 2


def _measure_web_pages(setting: BenchSetting) -> list[BenchFigure]:
    folder = setting.find_reference("extraction-web")
    if folder is None:
        return [BenchFigure.unavailable("extraction, web pages, word F1", "", "no reference data")]
    setting.on_progress("extraction: web pages of seven types")
    lines = gzip.decompress((folder / "ground-truth.jsonl.gz").read_bytes()).splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    pages = _read_pages(folder, list(rows))
    truth = {name: str(row["main_content"]) for name, row in rows.items()}
    peers = {name: answer["texts"] for name, answer in run_extractors(setting, pages).items()}
    texts = {"ours": {name: extract_body_text(page) for name, page in pages.items()}, **peers}
    scores = {
        who: np.array([word_f1(extracted.get(name, ""), truth[name]) for name in rows])
        for who, extracted in texts.items()
    }
    sites = [registrable_domain(row["url"]) for row in rows.values()]
    types = np.array([row["page_type"] for row in rows.values()])
    halves = np.array([site_half(site) for site in sites])
    groups = {"all": np.ones(len(rows), dtype=bool)}
    groups |= {kind: types == kind for kind in sorted(set(types))}
    groups |= {"sites rules were chosen on": halves == 0, "other sites": halves == 1}
    groups |= {f"other sites, {kind}": (types == kind) & (halves == 1) for kind in set(types)}
    figures = [
        figure
        for name, inside in groups.items()
        for figure in _group_figures(name, inside, scores, np.array(sites))
    ]
    setting.on_progress("extraction: speed on mixed pages")
    return [*figures, *_speed_figures(*measure_rates(setting, pages, extract_document_text))]


def extract_body_text(page: str) -> str:
    """Extracted text of a page without the headline; empty where extraction rejects it."""
    try:
        return extract_main_text(page, "text/html", "").text
    except ValueError:
        return ""


def _group_figures(
    name: str,
    in_group: NDArray[np.bool_],
    scores: Mapping[str, NDArray[np.float64]],
    sites: NDArray[np.str_],
) -> list[BenchFigure]:
    """Word F1 on a group of pages beside the peers', and the paired difference to trafilatura's."""
    ours = scores["ours"][in_group]
    title = f"extraction, word F1, {name}"
    if TRAFILATURA not in scores:
        return [BenchFigure(title, float(ours.mean()), "", better="higher")]
    theirs = scores[TRAFILATURA][in_group]
    low, high = paired_interval(ours - theirs, sites[in_group])
    difference = float((ours - theirs).mean())
    means = {
        who: scores[who][in_group].mean()
        for who in (TRAFILATURA_FAST, RESILIPARSE)
        if who in scores
    }
    others = ", ".join(f"{who} {mean:.4f}" for who, mean in means.items())
    note = (
        f"{in_group.sum()} pages; difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]; {others}"
    )
    figure = BenchFigure.beside_peer(
        title, ours.mean(), "", TRAFILATURA, theirs.mean(), False, better="higher", note=note
    )
    if name == "all":
        bound = BenchFigure.against_target(
            f"{title}, low end", low, "", LEAST_OVERALL, better="higher"
        )
    else:
        bound = BenchFigure.against_target(f"{title}, high end", high, "", 0.0, better="higher")
    return [figure, bound]


def paired_interval(
    differences: NDArray[np.float64], sites: NDArray[np.str_]
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over pages, drawn site by site."""
    random = np.random.default_rng(0)
    groups = [differences[sites == site] for site in sorted(set(sites))]
    sums = np.array([group.sum() for group in groups])
    counts = np.array([len(group) for group in groups])
    drawn = random.integers(0, len(groups), (RESAMPLES, len(groups)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def _speed_figures(ours: float, theirs: float | None) -> list[BenchFigure]:
    name = "extraction speed, mixed pages"
    rate = BenchFigure.beside_peer(
        name, ours, "pages/s", TRAFILATURA, theirs, False, better="higher"
    )
    if not theirs:
        return [rate]
    times = f"{name}, times trafilatura's"
    ratio = BenchFigure.against_target(times, ours / theirs, "x", LEAST_SPEED, better="higher")
    return [rate, ratio]


def _measure_articles(setting: BenchSetting) -> list[BenchFigure]:
    folder = setting.find_reference("extraction")
    if folder is None:
        return [BenchFigure.unavailable("extraction, articles, F1", "", "no reference data")]
    setting.on_progress("extraction: articles")
    articles = json.loads((folder / "ground-truth.json").read_bytes())
    truth = {name: str(article["articleBody"]) for name, article in articles.items()}
    pages = _read_pages(folder, list(truth))
    ours = score_pages(truth, {name: extract_body_text(page) for name, page in pages.items()})
    figures = []
    name = "extraction, articles, F1"
    f1 = average_scores(ours)[0]
    for who, answer in run_extractors(setting, pages).items():
        theirs = score_pages(truth, answer["texts"])
        peer, note = (
            average_scores(theirs)[0],
            f"{format_scores(ours)}; peer {format_scores(theirs)}",
        )
        figures.append(
            BenchFigure.beside_peer(name, f1, "", who, peer, False, better="higher", note=note)
        )
        if who == TRAFILATURA:
            less = f"{name} less trafilatura's"
            bound = BenchFigure.against_target(less, f1 - peer, "", LEAST_ARTICLES, better="higher")
            figures.append(bound)
    return figures


def _read_pages(folder: Path, names: list[str]) -> dict[str, str]:
    return {
        name: decode_page(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()))
        for name in names
    }
