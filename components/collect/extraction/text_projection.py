"""Projection of an extractor's text onto the page's own tree: the text blocks that are part of it.

The extractor decides what is main text; the page's tree has its structure. A block is part of the
text where most of its four-word sequences are. Tables, lists and code are kept or dropped as a
whole, and a heading directly before a kept block is kept too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.collect.extraction.boilerplate_elements import is_boilerplate
from components.collect.extraction.text_runs import TextBlock, join_block_texts, words_of
from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import drop_element

_SEQUENCE_WORDS = 4
"""Words of a sequence; shorter blocks match where they are a whole line of the text."""
_MIN_SEQUENCE_SHARE = 0.7
"""Share of a block's sequences that are in the text. Of 0.5 to 0.9 the best on one half of the
reference pages."""
_MAX_DISTANCE = 6
"""Blocks between a short kept block and the next long one: ``Share`` in a footer is a line too."""
_CELLS = ("td", "th")
_UNITS = ("table", "pre", "ul", "ol", "dl")
_HEADINGS = frozenset({"h2", "h3", "h4", "h5", "h6", "dt", "summary", "caption"})
_MAX_ADDED_WORDS = {"table": 300, "ul": 120, "ol": 120, "dl": 120}
"""Words outside of the text that are added when a unit is kept whole, at most."""
_MIN_UNIT_SHARE = {"table": 0.5, "ul": 0.7, "ol": 0.7, "dl": 0.7}
"""Share of a unit's words in the text from which it is kept whole."""


@dataclass(frozen=True)
class TextProjection:
    """A page's text blocks, and for each whether it is main text."""

    blocks: Sequence[TextBlock]
    is_kept: Sequence[bool]

    @property
    def word_count(self) -> int:
        """Number of words in kept blocks."""
        return sum(
            len(block.words) for block, keep in zip(self.blocks, self.is_kept, strict=True) if keep
        )

    def left_out_text(self) -> str:
        """Blocks that are not main text, a line each."""
        pairs = zip(self.blocks, self.is_kept, strict=True)
        return join_block_texts(block for block, keep in pairs if not keep)

    def prune_tree(self, body: Element) -> None:
        """Drop all blocks from the tree that are not kept."""
        kept_elements = {
            block.element for block, keep in zip(self.blocks, self.is_kept, strict=True) if keep
        }
        ancestors: set[Element] = set()
        for element in kept_elements:
            for outer in element.iterancestors():
                if outer in ancestors:
                    break
                ancestors.add(outer)
        for block in self.blocks:
            if block.element in kept_elements:
                continue
            if block.element in ancestors or block.element is body:
                _drop_own_text(block.element, kept_elements | ancestors)
            else:
                drop_element(block.element)
        for empty in list(body.iter("hr", "li", "dt", "dd")):
            if empty not in kept_elements and empty not in ancestors:
                drop_element(empty)


def project_text(blocks: Sequence[TextBlock], text: str) -> TextProjection | None:
    """Project ``text`` onto a page's blocks; None where no block of four or more words matches."""
    is_matched = _find_in_text(blocks, text)
    long_indices = [
        index
        for index, block in enumerate(blocks)
        if is_matched[index] and len(block.words) >= _SEQUENCE_WORDS
    ]
    if not long_indices:
        return None
    is_kept = [
        matches and (len(block.words) >= _SEQUENCE_WORDS or _is_near(long_indices, index))
        for index, (block, matches) in enumerate(zip(blocks, is_matched, strict=True))
    ]
    _drop_repeats(blocks, is_kept, text)
    _keep_whole_units(blocks, is_kept, is_matched, long_indices)
    for index in range(long_indices[0], long_indices[-1]):
        text = blocks[index].text.strip()
        if text.startswith("$$") and text.endswith("$$"):  # a display formula between paragraphs
            is_kept[index] = True
    _keep_headings(blocks, is_kept, long_indices)
    return TextProjection(blocks, is_kept)


def _word_sequences(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return (
        tuple(words[at : at + _SEQUENCE_WORDS]) for at in range(len(words) - _SEQUENCE_WORDS + 1)
    )


def _line_words(text: str) -> list[str]:
    """Lines and table cells of a text, as words with a blank between them."""
    lines = (cell for line in text.split("\n") for cell in line.split("|"))
    return [" ".join(words_of(line)) for line in lines]


def _find_in_text(blocks: Sequence[TextBlock], text: str) -> list[bool]:
    sequences = set(_word_sequences(words_of(text)))
    lines = set(_line_words(text))
    rows = "".join(f" {' '.join(words_of(line))} \n" for line in text.split("\n") if "|" in line)
    is_matched = []
    for block in blocks:
        if len(block.words) < _SEQUENCE_WORDS:
            words = " ".join(block.words)
            is_matched.append(
                words in lines or (block.element.tag in _CELLS and f" {words} " in rows)
            )
        else:
            own_sequences = list(_word_sequences(block.words))
            missing = sum(sequence not in sequences for sequence in own_sequences)
            # One word that the text lacks breaks every sequence that it is part of.
            tolerated = max(
                (1 - _MIN_SEQUENCE_SHARE) * len(own_sequences),
                min(_SEQUENCE_WORDS, len(own_sequences) // 2),
            )
            is_matched.append(missing <= tolerated)
    return is_matched


def _is_near(long_indices: Sequence[int], index: int) -> bool:
    position = bisect_left(long_indices, index)
    is_before_long = (
        position < len(long_indices) and long_indices[position] - index <= _MAX_DISTANCE
    )
    return is_before_long or (position > 0 and index - long_indices[position - 1] <= _MAX_DISTANCE)


def _drop_repeats(blocks: Sequence[TextBlock], is_kept: list[bool], text: str) -> None:
    """Keep a repeated block as often as the text has it, where most blocks around it are kept."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        if is_kept[index]:
            groups[block.words].append(index)
    repeated = {words: indices for words, indices in groups.items() if len(indices) > 1}
    if not repeated:
        return
    lines = Counter(_line_words(text))
    sequences = Counter(_word_sequences(words_of(text)))
    was_kept = list(is_kept)
    for words, indices in repeated.items():
        if len(words) < _SEQUENCE_WORDS:
            times = lines[" ".join(words)]
        else:
            times = min(sequences[sequence] for sequence in _word_sequences(words))
        if max(times, 1) < len(indices):
            indices.sort(key=lambda place: was_kept[max(0, place - 4) : place + 5].count(False))
            for index in indices[max(times, 1) :]:
                is_kept[index] = False


def _keep_whole_units(
    blocks: Sequence[TextBlock],
    is_kept: list[bool],
    is_matched: Sequence[bool],
    long_indices: Sequence[int],
) -> None:
    """Keep tables, lists and code whole: half a table is misleading, half a code block useless."""
    units: defaultdict[Element, list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        for element in (block.element, *block.element.iterancestors()):
            if element.tag in _UNITS:
                units[element].append(index)
    for unit, indices in units.items():
        words = sum(len(blocks[place].words) for place in indices)
        matched_words = sum(len(blocks[place].words) for place in indices if is_matched[place])
        if unit.tag == "pre":
            inside = long_indices[0] - 2 <= indices[0] <= long_indices[-1] + 2
            is_whole = matched_words > 0 or (inside and _is_near(long_indices, indices[0]))
        else:
            is_whole = (
                matched_words >= _MIN_UNIT_SHARE[unit.tag] * words
                and words - matched_words <= _MAX_ADDED_WORDS[unit.tag]
                and not is_boilerplate(unit)
            )
        if is_whole:
            for place in indices:
                is_kept[place] = True


def _keep_headings(
    blocks: Sequence[TextBlock], is_kept: list[bool], long_indices: Sequence[int]
) -> None:
    """Keep headings directly before a kept block, from the end on: of two in a row both."""
    for index in range(min(long_indices[-1], len(blocks) - 2), long_indices[0], -1):
        if is_kept[index] or not is_kept[index + 1]:
            continue
        ancestors = [blocks[index].element, *blocks[index].element.iterancestors()]
        heading = next((e for e in ancestors[:3] if e.tag in _HEADINGS), None)
        if heading is None or any(map(is_boilerplate, ancestors[:5])):
            continue
        following = [blocks[index + 1].element, *blocks[index + 1].element.iterancestors()][:3]
        if any(e in following for e in [heading, *heading.iterancestors()][:3]):
            # A heading that is a link is a teaser's title, unless the heading links to itself.
            is_kept[index] = blocks[index].link_share < 1 or blocks[index].element.tag in _HEADINGS


def _drop_own_text(element: Element, kept_elements: set[Element]) -> None:
    """Drop an element's own text; blocks inside it are kept or dropped by themselves."""
    element.text = "\n" if element.text else None
    for child in list(element):
        if (
            child not in kept_elements
            and next(child.iter("p", "div", "li", "td", "pre"), None) is None
        ):
            element.remove(child)
        elif child.tail:
            child.tail = "\n"
