"""The ways on from a version that was refused, each as a command that can be typed.

A refusal that only says "run it again" leads in a circle: the same run is refused again.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.publish.promotion.gates import Verdict
from components.publish.registry.model_registry import CHALLENGER, Entry

MAKES_ONE = "`modelmill run tiny` makes one"


def serve_it(entry: Entry) -> str:
    """The command that serves a version whatever its gates said."""
    named = f"@{CHALLENGER}" if CHALLENGER in entry.aliases else f"/{entry.version}"
    return f"`modelmill serve {entry.model}{named}` serves it as it is"


def ways_on(entry: Entry, refused: Sequence[Verdict] = ()) -> str:
    """Commands, and the fields of a run's config that hold the bounds of ``refused``."""
    promote = f'`modelmill promote {entry.model}/{entry.version} --force --why "…"`'
    ways = [serve_it(entry), f"{promote} makes it the champion"]
    gates = [f"{v.gate}: {v.figure}" for v in refused if not v.rule]
    compared = [v.figure for v in refused if v.rule]
    for field, names in (("promote.gates", gates), ("promote.compare", compared)):
        if names:
            ways.append(f"the bound is in {field} ({', '.join(dict.fromkeys(names))})")
    return ", ".join(ways)


def stays(champion: Entry | None) -> str:
    """What is served after a refusal."""
    if champion is None:
        return "there is no champion yet"
    return f"{champion.model}/{champion.version} stays the champion and is served"
