"""Comparison of a challenger with the champion: no worse, or better, by paired intervals.

The two are compared over the items that both were asked (``paired_difference.py``): the gate looks
at the 95 % interval of the difference, challenger minus champion.

* No worse (the default): refused where the interval lies wholly on the worse side of 0.
* Better by a margin: passes only where the interval lies wholly beyond ``margin`` on the better
  side. Of challengers that are equal to the champion, 2.5 % pass by chance.

Where too little is shared, each version's own interval stands in for the pairs: refused where the
challenger's lies wholly on the worse side of the champion's or, with a margin, unless it lies
wholly beyond it. That asks for a larger difference in both directions, and the record says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.core.stats.paired_difference import ItemPairs, pair_items
from components.publish.promotion.gates import (
    Comparison,
    Direction,
    End,
    GateVerdict,
    check_bound,
    find_figure,
)
from components.publish.registry.version_figures import VersionFigures


def compare_with_champion(
    comparisons: Sequence[Comparison], challenger: VersionFigures, champion: VersionFigures
) -> list[GateVerdict]:
    """A verdict for each comparison, in their order.

    A figure that the champion was never measured by holds nobody back; the record says so.

    Args:
        comparisons: figures to compare.
        challenger: its figures and their items.
        champion: the same of the present champion.

    Raises:
        ConfigError: the challenger was not measured by a figure to compare.
    """
    return [_compare(comparison, challenger, champion) for comparison in comparisons]


def _compare(
    comparison: Comparison, challenger: VersionFigures, champion: VersionFigures
) -> GateVerdict:
    name, better = comparison.figure, comparison.margin is not None
    gate = f"{'better' if better else 'no worse'} than the champion in {name}"
    ours, theirs = find_figure(gate, name, challenger.figures), champion.figures.get(name)
    on, direction = _side(comparison)
    if theirs is None:
        notes = {"bound_is": "the champion was never measured by it", "rule": "not compared"}
        return check_bound(gate, name, ours, on=on, direction=direction, bound=None, **notes)
    pairs = _pairs(name, challenger, champion)
    counted = {"pairs": pairs.count, "pages": pairs.pages}
    sign = 1.0 if comparison.better == "higher" else -1.0
    margin = sign * comparison.margin if comparison.margin else 0.0  # never -0, which is shown
    if pairs.count >= comparison.least_pairs and pairs.pages >= comparison.least_pages:
        rule = f"paired: challenger minus champion over {pairs.count} items"
        return check_bound(
            gate,
            name,
            pairs.difference(ours.name),
            on=on,
            direction=direction,
            bound=margin,
            rule=f"{rule} of {pairs.pages} pages",
            **counted,
        )
    end: End = "low" if on == "high" else "high"
    beyond = f" and {comparison.margin:g}" if comparison.margin else ""
    return check_bound(
        gate,
        name,
        ours,
        on=on,
        direction=direction,
        bound=float(getattr(theirs, end)) + margin,
        bound_is=f"the champion's {end} end{beyond}",
        rule=(
            f"unpaired: {pairs.count} items of {pairs.pages} pages are shared, fewer than "
            f"{comparison.least_pairs} of {comparison.least_pages}"
        ),
        **counted,
    )


def _side(comparison: Comparison) -> tuple[End, Direction]:
    """(end of the challenger's interval that is looked at, direction in which it must lie)."""
    higher = comparison.better == "higher"
    if comparison.margin is None:
        return ("high", "at least") if higher else ("low", "at most")
    return ("low", "above") if higher else ("high", "below")


def _pairs(name: str, challenger: VersionFigures, champion: VersionFigures) -> ItemPairs:
    report, _, figure = name.partition(".")
    return pair_items(figure, challenger.items.get(report), champion.items.get(report))
