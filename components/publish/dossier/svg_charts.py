"""Inline SVG charts: training curves, intervals, gate bounds. Colours are the page's, by class.

Texts are escaped here; what these functions return is safe to place in a page as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 460, 200, 46, 14, 24, 10
"""About the pixels that a chart has on a screen, so that its texts keep their size."""
MOST_POINTS = 400
DOTTED = 40
"""Up to so many points each one is marked."""
SPAN_WIDTH = 220
_Place = Callable[[float, float], tuple[float, float]]
SMOOTHING = 0.03
"""Half the window of the mean that is drawn over a noisy curve, as a share of its points."""


@dataclass(frozen=True)
class CurveSeries:
    """One line of a chart."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class IntervalMark:
    """A value with its interval."""

    value: float
    low: float
    high: float


def format_number(value: float | None) -> str:
    """A number as a person reads it: four digits, thousands apart; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"


def axis_ticks(low: float, high: float, max_ticks: int = 5, least_step: float = 0.0) -> list[float]:
    """Round numbers between ``low`` and ``high``, at steps of 1, 2 or 5 times a power of ten.

    Args:
        low: end of the axis.
        high: other end.
        max_ticks: about so many ticks at most.
        least_step: smallest step; 1 gives whole numbers, as the steps of a training are.
    """
    if not high > low:
        return [low]
    rough = max((high - low) / max_ticks, least_step)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_labels(at: Sequence[float]) -> list[str]:
    """The ticks of an axis as texts: all with the decimals that tell one from the next."""
    if len(at) < 2:
        return [format_number(value) for value in at]
    step = at[1] - at[0]
    largest = max(abs(value) for value in at)
    if largest < 1e-3 or largest >= 1e6:
        return [f"{value:.3g}" for value in at]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value + 0.0:,.{decimals}f}" for value in at]


def draw_curves(title: str, series: Sequence[CurveSeries]) -> Markup:
    """Draw a line chart by step; a noisy series stands faintly below a moving mean."""
    finite = [y for curve in series for y in curve.ys if math.isfinite(y)]
    xs = [x for curve in series for x in curve.xs]
    if not finite or not xs:
        return Markup("")
    low, high = _padded(min(finite), max(finite))
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - TOP)
        return across, up

    parts = [_grid(low, high, left, right, place)]
    for index, curve in enumerate(series):
        points = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
        if len(points) > 60:
            parts.append(_line(_thinned(points), place, f"curve c{index} faint"))
            points = _smooth(points)
        parts.append(_line(_thinned(points), place, f"curve c{index}"))
        if len(points) <= DOTTED:
            parts += [_dot(*place(*point), index) for point in points]
    return _svg(title, WIDTH, HEIGHT, "".join(parts))


def draw_intervals(title: str, ours: IntervalMark, theirs: IntervalMark) -> Markup:
    """Draw this version's interval above the champion's, on one scale of their own.

    Args:
        title: title that screen readers read.
        ours: interval of this version.
        theirs: interval of the champion.
    """
    low, high = _padded(*_reach([ours, theirs]))

    def across(value: float) -> float:
        return 6 + (value - low) / (high - low) * (SPAN_WIDTH - 12)

    drawn = [
        _span(span, across, 9 + 14 * index, index) for index, span in enumerate((ours, theirs))
    ]
    return _svg(title, SPAN_WIDTH, 32, "".join(drawn))


def draw_gate(title: str, interval: IntervalMark, bound: float, upwards: bool) -> Markup:
    """Draw an interval beside the bound it must keep; the side that passes is tinted.

    Args:
        title: title that screen readers read.
        interval: interval of the figure.
        bound: bound of the gate.
        upwards: the figure must lie above it.
    """
    low, high = _padded(*_reach([interval, IntervalMark(bound, bound, bound)]))

    def across(value: float) -> float:
        return 6 + (value - low) / (high - low) * (SPAN_WIDTH - 12)

    at = across(bound)
    start, width = (at, SPAN_WIDTH - at) if upwards else (0.0, at)
    drawn = (
        f'<rect class="allowed" x="{start:.1f}" y="0" width="{width:.1f}" height="20" rx="3"/>'
        f'<line class="bound" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="20"/>'
    )
    return _svg(title, SPAN_WIDTH, 20, drawn + _span(interval, across, 10, 0))


def _reach(spans: Sequence[IntervalMark]) -> tuple[float, float]:
    return min(span.low for span in spans), max(span.high for span in spans)


def _span(span: IntervalMark, across: Callable[[float], float], y: float, index: int) -> str:
    return (
        f'<line class="span c{index}" x1="{across(span.low):.1f}" y1="{y}" '
        f'x2="{across(span.high):.1f}" y2="{y}"/>{_dot(across(span.value), y, index, 4)}'
    )


def _dot(x: float, y: float, index: int, radius: float = 2.5) -> str:
    return f'<circle class="dot c{index}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _grid(low: float, high: float, left: float, right: float, place: _Place) -> str:
    drawn = []
    rows, columns = axis_ticks(low, high), axis_ticks(left, right, 5, least_step=1.0)
    for y, text in zip(rows, axis_labels(rows), strict=True):
        _, up = place(left, y)
        drawn.append(
            f'<line class="grid" x1="{LEFT}" y1="{up:.1f}" x2="{WIDTH - RIGHT}" y2="{up:.1f}"/>'
            f'<text class="axis" x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for x, text in zip(columns, axis_labels(columns), strict=True):
        over, _ = place(x, low)
        drawn.append(
            f'<text class="axis" x="{over:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>'
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
    """An axis with 6 % of room at both ends, so that no mark touches the frame."""
    spare = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - spare, high + spare


def _svg(title: str, width: int, height: int, inner: str) -> Markup:
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inner}</svg>"
    )
