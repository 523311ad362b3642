"""How many keys, tokens and passwords are found, and how many of what is found are some.

Each key is planted into a piece of documentation or code of the installed packages, or into a
web page's prose, as people write it there. A key is found where a span has its first and last
character. Wrong is every other span: in what looks like a key, and in the pieces themselves, which
hold none. The kinds are the ones that the scorer knows, so recall says nothing of issuers that it
does not know.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bench_report import BenchFigure, Better
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.installed_documentation import documentation, sources
from benchmarks.curate.pii.generated_keys import ALIKE, ALNUM, ASSIGNED, CHOSEN, ISSUED, some
from components.core.stats.figures import proportion_interval
from components.text.pii.find_pii import find_pii_spans

WEB = "quality/majority_data.jsonl"
EACH, PIECES, PIECE = 20, 1500, 2300
DEMANDED = 0.95
WAYS = (
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
class Planted:
    """A text, and where in it the key stands."""

    kind: str
    text: str
    start: int
    end: int


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """Precision and recall over all kinds, what is taken for a key, passwords of words."""
    draw = random.Random(7)  # noqa: S311 - a benchmark that must repeat
    pieces = backgrounds(setting, draw)
    keys = list(plant(pieces, draw))
    missed = Counter(one.kind for one in keys if not found(one))
    extra = sum(len(secrets(one.text)) - found(one) for one in keys)
    alike = [(kind, make(draw)) for kind, make in ALIKE.items() for _ in range(EACH)]
    taken = Counter(kind for kind, text in alike if secrets(f"{draw.choice(pieces)}\n\n{text}\n"))
    clean = sum(len(secrets(piece)) for piece in pieces)
    chosen = list(plant_chosen(pieces, draw))
    right = len(keys) - missed.total()
    return [
        _share("secrets: recall by exact span", right, len(keys), "higher", DEMANDED, missed),
        _share(
            "secrets: precision by exact span",
            right,
            right + extra + taken.total() + clean,
            "higher",
            DEMANDED,
            taken + Counter({"in documentation, code and prose": clean, "beside a key": extra}),
        ),
        _share(
            "secrets: what only looks like a key taken for one",
            taken.total(),
            len(alike),
            "lower",
            1 - DEMANDED,
            taken,
        ),
        _share(
            "secrets: passwords that people chose, found",
            sum(map(found, chosen)),
            len(chosen),
            "higher",
            None,
            Counter(),
        ),
    ]


def secrets(text: str) -> list[tuple[int, int]]:
    """Spans that are taken for a real key; those written as examples are none."""
    return [(span.start, span.end) for span in find_pii_spans(text) if span.kind == "secret"]


def found(one: Planted) -> bool:
    """Whether exactly the planted key is among the spans."""
    return (one.start, one.end) in secrets(one.text)


def backgrounds(setting: BenchSetting, draw: random.Random) -> list[str]:
    """Pieces of documentation, code and, where the reference data is, of web pages."""
    texts = [*documentation(PIECES, PIECE // 2, PIECE)]
    for source in sources(PIECES):
        at = draw.randrange(max(1, len(source) - PIECE))
        texts.append(source[at : at + PIECE])
    web = setting.find_reference(WEB)
    if web is not None:
        rows = web.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(row)["text"][:PIECE] for row in rows]
    return texts


def plant(pieces: list[str], draw: random.Random) -> Iterator[Planted]:
    """``EACH`` keys of each kind, each in a piece of its own."""
    for kind, make in ISSUED.items():
        for number in range(EACH):
            way = "{}\n" if "\n" in make(draw) else WAYS[number % len(WAYS)]
            yield _planted(kind, draw.choice(pieces), way, make(draw), draw)
    for kind, (way, make) in ASSIGNED.items():
        for _ in range(EACH):
            yield _planted(kind, draw.choice(pieces), f"\n{way}\n", make(draw), draw)


def plant_chosen(pieces: list[str], draw: random.Random) -> Iterator[Planted]:
    """Passwords of words and a number, assigned."""
    for number in range(5 * EACH):
        chosen = CHOSEN[number % len(CHOSEN)].format(some(draw, ALNUM[-10:], 4))
        way = ('password = "{}"', "DB_PASSWORD={}", "password: {}")[number % 3]
        yield _planted("chosen", draw.choice(pieces), f"\n{way}\n", chosen, draw)


def _planted(kind: str, piece: str, way: str, key: str, draw: random.Random) -> Planted:
    cut = piece.rfind("\n", 0, draw.randrange(1, len(piece) + 1)) + 1
    before = piece[:cut] + way.format("\0").partition("\0")[0]
    after = way.format("\0").partition("\0")[2] + "\n" + piece[cut:]
    return Planted(kind, before + key + after, len(before), len(before) + len(key))


def _share(
    name: str, right: int, of: int, better: Better, demanded: float | None, amiss: Counter[str]
) -> BenchFigure:
    figure = proportion_interval(right, max(1, of))
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(amiss.items()) if count)
    note = f"[{figure.low:.4f}, {figure.high:.4f}] of {of}" + (f"; {listed}" if listed else "")
    if demanded is None:
        return BenchFigure(name, figure.value, "", better="higher", note=note)
    return BenchFigure.against_target(name, figure.value, "", demanded, better=better, note=note)
