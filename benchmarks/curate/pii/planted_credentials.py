"""Precision and recall of credentials planted into documentation, code and prose.

Each key is planted into a piece of documentation or code of the installed packages, or of a web
page, the way people write it there. A key is found where a span has its first and last character.
Every other span is a false alarm: in look-alikes, and in the pieces themselves, which hold no
credential. The kinds are those that the scorer covers, so recall says nothing about other
issuers.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bench_report import BenchFigure, Better
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.installed_documentation import read_docstrings, read_sources
from benchmarks.curate.pii.generated_keys import (
    ASSIGNED_KEYS,
    CHOSEN_PASSWORDS,
    ISSUED_KEYS,
    LETTERS_DIGITS,
    LOOKALIKES,
    random_text,
)
from components.core.stats.figures import proportion_interval
from components.text.pii.find_pii import find_pii_spans

WEB = "quality/majority_data.jsonl"
KEYS_PER_KIND, PIECE_COUNT, PIECE_CHARACTERS = 20, 1500, 2300
MIN_SHARE = 0.95
CONTEXTS = (
    "Then set the token to {} and try again.",
    "export TOKEN={}\n",
    'client = Client("{}")',
    "    token: {}\n",
    "curl -H 'X-Token: {}' https://api.service.io/v1",
    "| staging | {} | rotated |",
    "[12:04:11] using {}, 3 retries",
    "{}",
)


@dataclass(frozen=True)
class PlantedKey:
    """A text with one key, at [start, end)."""

    kind: str
    text: str
    start: int
    end: int


def measure_credentials(setting: BenchSetting) -> list[BenchFigure]:
    """Recall and precision over all kinds, look-alikes mistaken for keys, chosen passwords."""
    draw = random.Random(7)  # noqa: S311 - a benchmark that must repeat
    pieces = background_pieces(setting, draw)
    keys = list(plant_keys(pieces, draw))
    missed = Counter(key.kind for key in keys if not is_found(key))
    extra = sum(len(find_secret_spans(key.text)) - is_found(key) for key in keys)
    lookalikes = [
        (kind, make(draw)) for kind, make in LOOKALIKES.items() for _ in range(KEYS_PER_KIND)
    ]
    mistaken = Counter(
        kind for kind, text in lookalikes if find_secret_spans(f"{draw.choice(pieces)}\n\n{text}\n")
    )
    false_alarms = sum(len(find_secret_spans(piece)) for piece in pieces)
    passwords = list(plant_passwords(pieces, draw))
    right = len(keys) - missed.total()
    return [
        _share_figure(
            "secrets: recall by exact span", right, len(keys), "higher", MIN_SHARE, missed
        ),
        _share_figure(
            "secrets: precision by exact span",
            right,
            right + extra + mistaken.total() + false_alarms,
            "higher",
            MIN_SHARE,
            mistaken
            + Counter({"in documentation, code and prose": false_alarms, "beside a key": extra}),
        ),
        _share_figure(
            "secrets: what only looks like a key taken for one",
            mistaken.total(),
            len(lookalikes),
            "lower",
            1 - MIN_SHARE,
            mistaken,
        ),
        _share_figure(
            "secrets: passwords that people chose, found",
            sum(map(is_found, passwords)),
            len(passwords),
            "higher",
            None,
            Counter(),
        ),
    ]


def find_secret_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of spans classified as credentials, those of examples left out."""
    return [(span.start, span.end) for span in find_pii_spans(text) if span.kind == "secret"]


def is_found(key: PlantedKey) -> bool:
    """True where a span covers exactly the planted key."""
    return (key.start, key.end) in find_secret_spans(key.text)


def background_pieces(setting: BenchSetting, draw: random.Random) -> list[str]:
    """Pieces of docstrings, code and, where the reference data is present, of web pages."""
    texts = [*read_docstrings(PIECE_COUNT, PIECE_CHARACTERS // 2, PIECE_CHARACTERS)]
    for source in read_sources(PIECE_COUNT):
        at = draw.randrange(max(1, len(source) - PIECE_CHARACTERS))
        texts.append(source[at : at + PIECE_CHARACTERS])
    web = setting.find_reference(WEB)
    if web is not None:
        rows = web.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(row)["text"][:PIECE_CHARACTERS] for row in rows]
    return texts


def plant_keys(pieces: list[str], draw: random.Random) -> Iterator[PlantedKey]:
    """``KEYS_PER_KIND`` keys of each kind, each in a piece of its own."""
    for kind, make in ISSUED_KEYS.items():
        for number in range(KEYS_PER_KIND):
            template = "{}\n" if "\n" in make(draw) else CONTEXTS[number % len(CONTEXTS)]
            yield _plant_key(kind, draw.choice(pieces), template, make(draw), draw)
    for kind, (template, make) in ASSIGNED_KEYS.items():
        for _ in range(KEYS_PER_KIND):
            yield _plant_key(kind, draw.choice(pieces), f"\n{template}\n", make(draw), draw)


def plant_passwords(pieces: list[str], draw: random.Random) -> Iterator[PlantedKey]:
    """Assigned passwords of words and a number."""
    for number in range(5 * KEYS_PER_KIND):
        password = CHOSEN_PASSWORDS[number % len(CHOSEN_PASSWORDS)].format(
            random_text(draw, LETTERS_DIGITS[-10:], 4)
        )
        way = ('password = "{}"', "DB_PASSWORD={}", "password: {}")[number % 3]
        yield _plant_key("chosen", draw.choice(pieces), f"\n{way}\n", password, draw)


def _plant_key(kind: str, piece: str, template: str, key: str, draw: random.Random) -> PlantedKey:
    cut = piece.rfind("\n", 0, draw.randrange(1, len(piece) + 1)) + 1
    before = piece[:cut] + template.format("\0").partition("\0")[0]
    after = template.format("\0").partition("\0")[2] + "\n" + piece[cut:]
    return PlantedKey(kind, before + key + after, len(before), len(before) + len(key))


def _share_figure(
    name: str, right: int, total: int, better: Better, target: float | None, errors: Counter[str]
) -> BenchFigure:
    figure = proportion_interval(right, max(1, total))
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()) if count)
    note = f"[{figure.low:.4f}, {figure.high:.4f}] of {total}" + (f"; {listed}" if listed else "")
    if target is None:
        return BenchFigure(name, figure.value, "", better="higher", note=note)
    return BenchFigure.against_target(name, figure.value, "", target, better=better, note=note)
