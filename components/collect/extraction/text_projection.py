"""Projection of an extractor's text onto the page's own tree: the runs that stand in it.

The extractor says what is main text; the page's tree says what it means. A run stands in the text
where most of its four-word sequences do. Tables, lists and code stand or fall as a whole, and a
heading right before what is kept comes along.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.collect.extraction.boilerplate_elements import is_boilerplate
from components.collect.extraction.text_runs import Run, join_runs, words_of
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import drop

_SEQUENCE = 4
"""Words; shorter runs count where they are a line of the text."""
_LEAST_SHARE = 0.7
"""Of a run's sequences that stand in the text. Of 0.5 to 0.9 the best on pages of one half."""
_NEAR = 6
"""A short run is kept within so many runs of a long one: ``Share`` in a footer is a line too."""
_CELLS = ("td", "th")
_UNITS = ("table", "pre", "ul", "ol", "dl")
_HEADINGS = frozenset({"h2", "h3", "h4", "h5", "h6", "dt", "summary", "caption"})
_MAX_ADDED = {"table": 300, "ul": 120, "ol": 120, "dl": 120}
"""Words that come along when a unit is taken whole, at most."""
_LEAST_IN_UNIT = {"table": 0.5, "ul": 0.7, "ol": 0.7, "dl": 0.7}


@dataclass(frozen=True)
class Projection:
    """A page's runs, and which of them are its text."""

    runs: Sequence[Run]
    kept: Sequence[bool]

    @property
    def word_count(self) -> int:
        """Words of the kept runs."""
        return sum(len(run.words) for run, keep in zip(self.runs, self.kept, strict=True) if keep)

    def left_out(self) -> str:
        """Runs that are no text, a line each."""
        pairs = zip(self.runs, self.kept, strict=True)
        return join_runs(run for run, keep in pairs if not keep)

    def cut(self, body: Element) -> None:
        """Take what is not kept out of the tree."""
        kept = {run.element for run, keep in zip(self.runs, self.kept, strict=True) if keep}
        around: set[Element] = set()
        for element in kept:
            for outer in element.iterancestors():
                if outer in around:
                    break
                around.add(outer)
        for run in self.runs:
            if run.element in kept:
                continue
            if run.element in around or run.element is body:
                _empty(run.element, kept | around)
            else:
                drop(run.element)
        for empty in list(body.iter("hr", "li", "dt", "dd")):
            if empty not in kept and empty not in around:
                drop(empty)


def project(runs: Sequence[Run], text: str) -> Projection | None:
    """The runs that stand in ``text``; None where no longer one does."""
    found = _stand_in(runs, text)
    long = [index for index, run in enumerate(runs) if found[index] and len(run.words) >= _SEQUENCE]
    if not long:
        return None
    kept = [
        stands and (len(run.words) >= _SEQUENCE or _is_near(long, index))
        for index, (run, stands) in enumerate(zip(runs, found, strict=True))
    ]
    _keep_once(runs, kept, text)
    _keep_units(runs, kept, found, long)
    for index in range(long[0], long[-1]):
        text = runs[index].text.strip()
        if text.startswith("$$") and text.endswith("$$"):  # a formula between paragraphs
            kept[index] = True
    _keep_headings(runs, kept, long)
    return Projection(runs, kept)


def _sequences(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(words[at : at + _SEQUENCE]) for at in range(len(words) - _SEQUENCE + 1))


def _lines(text: str) -> list[str]:
    """Lines and cells of tables, as words with a blank between them."""
    lines = (cell for line in text.split("\n") for cell in line.split("|"))
    return [" ".join(words_of(line)) for line in lines]


def _stand_in(runs: Sequence[Run], text: str) -> list[bool]:
    sequences = set(_sequences(words_of(text)))
    lines = set(_lines(text))
    rows = "".join(f" {' '.join(words_of(line))} \n" for line in text.split("\n") if "|" in line)
    found = []
    for run in runs:
        if len(run.words) < _SEQUENCE:
            words = " ".join(run.words)
            found.append(words in lines or (run.element.tag in _CELLS and f" {words} " in rows))
        else:
            own = list(_sequences(run.words))
            missed = sum(one not in sequences for one in own)
            # One word that the text lacks breaks as many sequences as it stands in.
            tolerated = max((1 - _LEAST_SHARE) * len(own), min(_SEQUENCE, len(own) // 2))
            found.append(missed <= tolerated)
    return found


def _is_near(long: Sequence[int], index: int) -> bool:
    at = bisect_left(long, index)
    after = at < len(long) and long[at] - index <= _NEAR
    return after or (at > 0 and index - long[at - 1] <= _NEAR)


def _keep_once(runs: Sequence[Run], kept: list[bool], text: str) -> None:
    """What the text has once is kept once: where most around it is kept."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        if kept[index]:
            groups[run.words].append(index)
    repeated = {words: places for words, places in groups.items() if len(places) > 1}
    if not repeated:
        return
    lines = Counter(_lines(text))
    sequences = Counter(_sequences(words_of(text)))
    before = list(kept)
    for words, places in repeated.items():
        if len(words) < _SEQUENCE:
            times = lines[" ".join(words)]
        else:
            times = min(sequences[one] for one in _sequences(words))
        if max(times, 1) < len(places):
            places.sort(key=lambda at: before[max(0, at - 4) : at + 5].count(False))
            for index in places[max(times, 1) :]:
                kept[index] = False


def _keep_units(
    runs: Sequence[Run], kept: list[bool], found: Sequence[bool], long: Sequence[int]
) -> None:
    """Half a table says something false, half a block of code nothing."""
    units: defaultdict[Element, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        for element in (run.element, *run.element.iterancestors()):
            if element.tag in _UNITS:
                units[element].append(index)
    for unit, places in units.items():
        words = sum(len(runs[at].words) for at in places)
        standing = sum(len(runs[at].words) for at in places if found[at])
        if unit.tag == "pre":
            inside = long[0] - 2 <= places[0] <= long[-1] + 2
            is_whole = standing > 0 or (inside and _is_near(long, places[0]))
        else:
            is_whole = (
                standing >= _LEAST_IN_UNIT[unit.tag] * words
                and words - standing <= _MAX_ADDED[unit.tag]
                and not is_boilerplate(unit)
            )
        if is_whole:
            for at in places:
                kept[at] = True


def _keep_headings(runs: Sequence[Run], kept: list[bool], long: Sequence[int]) -> None:
    """A heading right before a kept run beside it, from the end on: of two in a row both."""
    for index in range(min(long[-1], len(runs) - 2), long[0], -1):
        if kept[index] or not kept[index + 1]:
            continue
        around = [runs[index].element, *runs[index].element.iterancestors()]
        heading = next((e for e in around[:3] if e.tag in _HEADINGS), None)
        if heading is None or any(map(is_boilerplate, around[:5])):
            continue
        following = [runs[index + 1].element, *runs[index + 1].element.iterancestors()][:3]
        if any(e in following for e in [heading, *heading.iterancestors()][:3]):
            # A link alone is a teaser's title, unless the whole heading links to itself.
            kept[index] = runs[index].link_share < 1 or runs[index].element.tag in _HEADINGS


def _empty(element: Element, stay: set[Element]) -> None:
    """Take the element's own text out; blocks inside it stay or go by themselves."""
    element.text = "\n" if element.text else None
    for child in list(element):
        if child not in stay and next(child.iter("p", "div", "li", "td", "pre"), None) is None:
            element.remove(child)
        elif child.tail:
            child.tail = "\n"
