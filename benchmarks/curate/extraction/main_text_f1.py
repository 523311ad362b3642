"""The main text of web pages: how much of it is found, what else comes along, how fast.

Three sets of pages with a known answer. ``extraction-web`` has pages of seven types, scored by the
words a page's text shares with the true one; rules were chosen on one half of its sites, so the
other half is shown apart. ``extraction`` has articles, scored by runs of four words. ``faults`` has
a small page for each situation that a public bug report tells of. trafilatura and resiliparse read
the same pages beside us.
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
    FAST,
    RESILIPARSE,
    TRAFILATURA,
    ask_peers,
    rates_in_turn,
)
from benchmarks.curate.extraction.shingle_f1 import score_pages, summary, told
from components.collect.extraction.main_text import extract_main_text
from components.collect.web.charset import decode_page

LEAST_OVERALL = -0.005
"""The low end of the difference to trafilatura over all pages of the web set."""
LEAST_ARTICLES = -0.003
LEAST_SPEED = 0.7
"""Of trafilatura's pages a second on mixed pages; it runs inside ours."""
DRAWS = 2_000
_WORD = re.compile(r"\w+")
_MARKS = re.compile(r"[#*`|>~]|^\s*-{3,}|\\(?=[*_#])", re.MULTILINE)
"""Markdown's marks, which are no words of the page."""
Texts = Mapping[str, str]


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """All figures on extraction: web pages, articles, situations, manuals."""
    return [
        *_web(setting),
        *_articles(setting),
        *reported_faults.measure(setting, extract_text),
        *manual_pages.measure(setting),
    ]


def extract_text(page: str, kind: str = "text/html") -> str:
    """What the extract stage makes of a page; nothing where it would be set aside."""
    try:
        found = extract_main_text(page, kind, "")
    except ValueError:
        return ""
    return f"# {found.headline}\n\n{found.text}" if found.headline else found.text


def word_f1(found: str, truth: str) -> float:
    """F1 of the words of two texts as multisets, Markdown's marks left out."""
    ours = Counter(_WORD.findall(_MARKS.sub(" ", found).lower()))
    true = Counter(_WORD.findall(truth.lower()))
    both = (ours & true).total()
    return 2 * both / (ours.total() + true.total()) if both else float(not ours and not true)


def site_of(url: str) -> str:
    """The registrable domain of an address, as far as the public suffix list knows it."""
    return get_fld(url, fail_silently=True) or urlsplit(url).hostname or url


def half_of(site: str) -> int:
    """0 for the sites that rules were chosen on, 1 for the others."""
    return int(hashlib.sha256(site.encode()).hexdigest(), 16) % 2


def _web(setting: BenchSetting) -> list[BenchFigure]:
    folder = setting.find_reference("extraction-web")
    if folder is None:
        return [BenchFigure.unavailable("extraction, web pages, word F1", "", "no reference data")]
    setting.on_progress("extraction: web pages of seven types")
    lines = gzip.decompress((folder / "ground-truth.jsonl.gz").read_bytes()).splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    pages = _read(folder, list(rows))
    truth = {name: str(row["main_content"]) for name, row in rows.items()}
    peers = {name: answer["texts"] for name, answer in ask_peers(setting, pages).items()}
    texts = {"ours": {name: article_text(page) for name, page in pages.items()}, **peers}
    scores = {
        who: np.array([word_f1(found.get(name, ""), truth[name]) for name in rows])
        for who, found in texts.items()
    }
    sites = [site_of(row["url"]) for row in rows.values()]
    types = np.array([row["page_type"] for row in rows.values()])
    halves = np.array([half_of(site) for site in sites])
    groups = {"all": np.ones(len(rows), dtype=bool)}
    groups |= {kind: types == kind for kind in sorted(set(types))}
    groups |= {"sites rules were chosen on": halves == 0, "other sites": halves == 1}
    groups |= {f"other sites, {kind}": (types == kind) & (halves == 1) for kind in set(types)}
    figures = [
        figure
        for name, inside in groups.items()
        for figure in _compared(name, inside, scores, np.array(sites))
    ]
    setting.on_progress("extraction: speed on mixed pages")
    return [*figures, *_speed(*rates_in_turn(setting, pages, extract_text))]


def article_text(page: str) -> str:
    """A page's text without the headline that a document gets before it."""
    try:
        return extract_main_text(page, "text/html", "").text
    except ValueError:
        return ""


def _compared(
    name: str,
    inside: NDArray[np.bool_],
    scores: Mapping[str, NDArray[np.float64]],
    sites: NDArray[np.str_],
) -> list[BenchFigure]:
    """Our word F1 on some pages beside each peer's, and the paired difference to trafilatura's."""
    ours = scores["ours"][inside]
    title = f"extraction, word F1, {name}"
    if TRAFILATURA not in scores:
        return [BenchFigure(title, float(ours.mean()), "", better="higher")]
    theirs = scores[TRAFILATURA][inside]
    low, high = paired_interval(ours - theirs, sites[inside])
    difference = float((ours - theirs).mean())
    means = {who: scores[who][inside].mean() for who in (FAST, RESILIPARSE) if who in scores}
    others = ", ".join(f"{who} {mean:.4f}" for who, mean in means.items())
    note = f"{inside.sum()} pages; difference {difference:+.4f} [{low:+.4f}, {high:+.4f}]; {others}"
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
    drawn = random.integers(0, len(groups), (DRAWS, len(groups)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def _speed(ours: float, theirs: float | None) -> list[BenchFigure]:
    name = "extraction speed, mixed pages"
    rate = BenchFigure.beside_peer(
        name, ours, "pages/s", TRAFILATURA, theirs, False, better="higher"
    )
    if not theirs:
        return [rate]
    times = f"{name}, times trafilatura's"
    ratio = BenchFigure.against_target(times, ours / theirs, "x", LEAST_SPEED, better="higher")
    return [rate, ratio]


def _articles(setting: BenchSetting) -> list[BenchFigure]:
    folder = setting.find_reference("extraction")
    if folder is None:
        return [BenchFigure.unavailable("extraction, articles, F1", "", "no reference data")]
    setting.on_progress("extraction: articles")
    known = json.loads((folder / "ground-truth.json").read_bytes())
    truth = {name: str(one["articleBody"]) for name, one in known.items()}
    pages = _read(folder, list(truth))
    ours = score_pages(truth, {name: article_text(page) for name, page in pages.items()})
    figures = []
    name = "extraction, articles, F1"
    f1 = summary(ours)[0]
    for who, answer in ask_peers(setting, pages).items():
        theirs = score_pages(truth, answer["texts"])
        peer, note = summary(theirs)[0], f"{told(ours)}; peer {told(theirs)}"
        figures.append(
            BenchFigure.beside_peer(name, f1, "", who, peer, False, better="higher", note=note)
        )
        if who == TRAFILATURA:
            less = f"{name} less trafilatura's"
            bound = BenchFigure.against_target(less, f1 - peer, "", LEAST_ARTICLES, better="higher")
            figures.append(bound)
    return figures


def _read(folder: Path, names: list[str]) -> dict[str, str]:
    return {
        name: decode_page(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()))
        for name in names
    }
