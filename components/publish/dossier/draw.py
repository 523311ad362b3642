"""Pictures as inline SVG: curves, bars, intervals. Colours are the page's, by class.

Texts are escaped here; what these functions return is safe to place in a page as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 220, 56, 26, 12
MOST_POINTS = 400
_Place = Callable[[float, float], tuple[float, float]]
SMOOTHING = 0.03
"""Half the window of the mean that is drawn over a noisy curve, as a share of its points."""


@dataclass(frozen=True)
class Series:
    """One curve."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Span:
    """A value with its interval."""

    value: float
    low: float
    high: float


def number(value: float | None) -> str:
    """A number as a person reads it: four digits, thousands apart; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between ``low`` and ``high``, at most ``most`` or so."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def curves(title: str, x_label: str, series: Sequence[Series]) -> Markup:
    """A line chart with one scale; a noisy series is drawn faintly below a moving mean."""
    finite = [y for one in series for y in one.ys if math.isfinite(y)]
    xs = [x for one in series for x in one.xs]
    if not finite or not xs:
        return Markup("")
    low, high = _padded(min(finite), max(finite))
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 8)
        up = HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - TOP)
        return across, up

    parts = [_grid(low, high, left, right, place)]
    for index, one in enumerate(series):
        points = [(x, y) for x, y in zip(one.xs, one.ys, strict=True) if math.isfinite(y)]
        noisy = len(points) > 60
        if noisy:
            parts.append(_line(_thinned(points), place, f"curve c{index} faint"))
            points = _smooth(points)
        parts.append(_line(_thinned(points), place, f"curve c{index}"))
    legend = "".join(
        f'<text class="legend c{index}" x="{WIDTH - 10}" y="{TOP + 14 * (index + 1)}" '
        f'text-anchor="end">{escape(one.name)}</text>'
        for index, one in enumerate(series)
        if len(series) > 1
    )
    label = f'<text class="axis" x="{WIDTH - 8}" y="{HEIGHT - 4}" text-anchor="end">'
    return _svg(title, WIDTH, HEIGHT, "".join(parts) + legend + f"{label}{escape(x_label)}</text>")


def bars(title: str, rows: Sequence[tuple[str, float]]) -> Markup:
    """Horizontal bars from the first, widest one down: a funnel."""
    most = max((value for _, value in rows), default=0.0) or 1.0
    height = 30 * len(rows) + 4
    drawn = []
    for index, (name, value) in enumerate(rows):
        y, width = 30 * index + 4, max(1.0, value / most * (WIDTH - 250))
        drawn.append(
            f'<text class="name" x="0" y="{y + 16}">{escape(name)}</text>'
            f'<rect class="bar" x="170" y="{y}" width="{width:.1f}" height="22" rx="3"/>'
            f'<text class="value" x="{176 + width:.1f}" y="{y + 16}">{number(value)}</text>'
        )
    return _svg(title, WIDTH, height, "".join(drawn))


def intervals(title: str, ours: Span, theirs: Span) -> Markup:
    """This version's interval above the champion's, on one scale of their own."""
    width, height, spans = 260, 34, (ours, theirs)
    low, high = _padded(min(s.low for s in spans), max(s.high for s in spans))

    def across(value: float) -> float:
        return 6 + (value - low) / (high - low) * (width - 12)

    drawn = []
    for index, span in enumerate(spans):
        y = 10 + 15 * index
        drawn.append(
            f'<line class="span c{index}" x1="{across(span.low):.1f}" y1="{y}" '
            f'x2="{across(span.high):.1f}" y2="{y}"/>'
            f'<circle class="dot c{index}" cx="{across(span.value):.1f}" cy="{y}" r="4"/>'
        )
    return _svg(title, width, height, "".join(drawn))


def _grid(low: float, high: float, left: float, right: float, place: _Place) -> str:
    drawn = []
    for y in ticks(low, high):
        _, up = place(left, y)
        drawn.append(
            f'<line class="grid" x1="{LEFT}" y1="{up:.1f}" x2="{WIDTH - 8}" y2="{up:.1f}"/>'
            f'<text class="axis" x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">'
            f"{number(round(y, 10))}</text>"
        )
    for x in ticks(left, right, 6)[:-1]:
        over, _ = place(x, low)
        drawn.append(
            f'<text class="axis" x="{over:.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{number(round(x, 10))}</text>"
        )
    return "".join(drawn)


def _line(points: Sequence[tuple[float, float]], place: _Place, kind: str) -> str:
    placed = (place(x, y) for x, y in points)
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean over a window around each point, narrower towards the ends: it does not lag."""
    reach = max(1, int(len(points) * SMOOTHING))
    smooth = []
    for at, (x, _) in enumerate(points):
        near = min(reach, at, len(points) - 1 - at)
        window = [y for _, y in points[at - near : at + near + 1]]
        smooth.append((x, math.fsum(window) / len(window)))
    return smooth


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:stride], points[-1]] if points else points


def _padded(low: float, high: float) -> tuple[float, float]:
    spare = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - spare, high + spare


def _svg(title: str, width: int, height: int, inner: str) -> Markup:
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inner}</svg>"
    )
