"""Article pages with known text: how much of it is found, what else comes along, how fast.

No page is judged by a model that has learnt from its site: the pages are parted by site, and each
part is extracted by a model fitted to the others (five parts, and two for the halves). A page's
scores are the means over several such partitions, for one alone moves F1 by chance as much as the
peers differ. What speed is measured with is the shipped model, fitted to all.

The weights are apart; the class words, the rules and the threshold are not: they were chosen with
these pages in view, so F1 here is on the bright side of what unseen pages give.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.collect.article import Model
from components.collect.fit import Example, example, fit, fold_of, site_of
from components.collect.maintext import main_text
from components.collect.textbytes import decode
from flows.bench.curate.setting import Setting
from flows.bench.curate.shingles import interval, score_pages, summary, told
from flows.bench.figures import Measured

PARTS, PARTITIONS = 5, 5
FASTER = 3.0
"""How many times trafilatura's speed is demanded."""


def measure(setting: Setting) -> list[Measured]:
    """F1 beside trafilatura's modes and resiliparse, and pages a second."""
    folder = setting.reference("extraction")
    if folder is None:
        return [Measured.absent("extraction F1", "", "no reference data")]
    known = json.loads((folder / "ground-truth.json").read_bytes())
    truth = {name: str(told["articleBody"]) for name, told in known.items()}
    sites = {name: site_of(told["url"]) for name, told in known.items()}
    pages = _read(folder, list(truth))
    setting.tell("extraction: our models, each page by one that has not seen its site")
    examples = {
        name: one
        for name, page in pages.items()
        if (one := example(page, truth[name], known[name]["url"])) is not None
    }
    ours = _mean_scores(truth, pages, examples, sites)
    halves = score_pages(truth, _apart(pages, examples, sites, 2))
    setting.tell("extraction: speed, in turn with the peers")
    seconds, peers = _in_turn(setting, pages)
    best = score_pages(truth, peers["precision"]["texts"]) if "precision" in peers else None
    figures = _quality(ours, best)
    figures += [_half(truth, sites, halves, best, half) for half in (0, 1)]
    figures += _speed(len(pages) / statistics.median(seconds), len(pages), peers)
    return figures + _others(truth, peers, ours)


def _read(folder: Path, names: list[str]) -> dict[str, str]:
    return {
        name: decode(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()))
        for name in names
    }


def _mean_scores(
    truth: dict[str, str],
    pages: dict[str, str],
    examples: dict[str, Example],
    sites: dict[str, str],
) -> NDArray[np.float64]:
    """(pages, 2): means over the partitions in which a page counts."""
    scores = np.stack(
        [
            score_pages(truth, _apart(pages, examples, sites, PARTS, partition))
            for partition in range(PARTITIONS)
        ]
    )
    counts = (~np.isnan(scores)).sum(0)
    means: NDArray[np.float64] = np.nansum(scores, 0) / np.where(counts, counts, np.nan)
    return means


def _apart(
    pages: dict[str, str],
    examples: dict[str, Example],
    sites: dict[str, str],
    parts: int,
    partition: int = 0,
) -> dict[str, str]:
    """Every page's text by a model fitted to the other parts' sites."""
    fold = {site: fold_of(site, parts, partition) for site in sites.values()}
    found: dict[str, str] = {}
    for part in range(parts):
        model = fit([one for one in examples.values() if fold[one.site] != part])
        for name, page in pages.items():
            if fold[sites[name]] == part:
                found[name] = _text(page, model)
    return found


def _text(page: str, model: Model | None = None) -> str:
    """What the extract stage makes of a page; nothing where it would be set aside."""
    try:
        return main_text(page, "text/html", "", model).text
    except ValueError:
        return ""


def _in_turn(setting: Setting, pages: dict[str, str]) -> tuple[list[float], dict[str, Any]]:
    """(our seconds a pass, the peers' answers), one pass of each after the other."""
    source = setting.scratch / "pages.json"
    source.write_text(json.dumps(pages), encoding="utf-8")
    path = str(source)
    asked: dict[str, Callable[[], Any]] = {
        "default": lambda: setting.peer("trafilatura_extract", "trafilatura", path, "default", "1"),
        "fast": lambda: setting.peer("trafilatura_extract", "trafilatura", path, "fast", "1"),
        "precision": lambda: setting.peer(
            "trafilatura_extract", "trafilatura", path, "precision", "1"
        ),
        "resiliparse": lambda: setting.peer("resiliparse_extract", "resiliparse", path, "1"),
    }
    _pass(pages)
    seconds: list[float] = []
    peers: dict[str, Any] = {}
    for _ in range(setting.repeats):
        seconds.append(_pass(pages))
        for name, ask in asked.items():
            answer = ask()
            if answer is not None:
                before = peers.get(name, {}).get("seconds", [])
                peers[name] = {**answer, "seconds": [*before, *answer["seconds"]]}
    return seconds, peers


def _pass(pages: dict[str, str]) -> float:
    began = time.perf_counter()
    for page in pages.values():
        _text(page)
    return time.perf_counter() - began


def _quality(ours: NDArray[np.float64], best: NDArray[np.float64] | None) -> list[Measured]:
    f1 = summary(ours)[0]
    peer = None if best is None else summary(best)[0]
    name, rival = "extraction F1, sites not learnt from", "trafilatura, precision"
    note = told(ours)
    first = Measured.beside(name, f1, "", rival, peer, True, better="higher", note=note)
    if best is None:
        return [first]
    low, high = interval(ours, best)
    note = f"difference {f1 - summary(best)[0]:+.4f} [{low:+.4f}, {high:+.4f}]; peer {told(best)}"
    bound = Measured.against_target(
        "extraction F1 above trafilatura's best, low end", low, "", 0.0, better="higher", note=note
    )
    return [first, bound]


def _half(
    truth: dict[str, str],
    sites: dict[str, str],
    scores: NDArray[np.float64],
    best: NDArray[np.float64] | None,
    half: int,
) -> Measured:
    """One half of the sites, by the model of the other."""
    inside = np.array([fold_of(sites[name], 2) == half for name in truth])
    name = f"extraction F1, half {half + 1} by a model of the other"
    peer = None if best is None else summary(best[inside])[0]
    value, note = summary(scores[inside])[0], f"{inside.sum()} pages, {told(scores[inside])}"
    rival = "trafilatura, precision"
    return Measured.beside(name, value, "", rival, peer, False, better="higher", note=note)


def _speed(ours: float, pages: int, peers: dict[str, Any]) -> list[Measured]:
    rates = {name: pages / statistics.median(told["seconds"]) for name, told in peers.items()}
    name = "extraction speed"
    figures = [
        Measured.beside(name, ours, "pages/s", rival, rates.get(key), False, better="higher")
        for key, rival in (("default", "trafilatura"), ("resiliparse", "resiliparse"))
    ]
    if "default" in rates:
        ratio = ours / rates["default"]
        name = "extraction speed, times trafilatura's"
        figures.append(Measured.against_target(name, ratio, "x", FASTER, better="higher"))
    return figures


def _others(
    truth: dict[str, str], peers: dict[str, Any], ours: NDArray[np.float64]
) -> list[Measured]:
    names = {"default": "trafilatura", "fast": "trafilatura, fast", "resiliparse": "resiliparse"}
    figures = []
    for key, rival in names.items():
        if key in peers:
            scores = score_pages(truth, peers[key]["texts"])
            f1, peer = summary(ours)[0], summary(scores)[0]
            name, note = f"extraction F1 beside {rival}", f"peer {told(scores)}"
            figures.append(
                Measured.beside(name, f1, "", rival, peer, False, better="higher", note=note)
            )
    return figures
