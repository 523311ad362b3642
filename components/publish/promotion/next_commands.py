"""Next commands after a refusal, each one that can be typed.

A refusal that only says "run it again" leads in a circle: the same run is refused again.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.publish.promotion.gates import GateVerdict
from components.publish.registry.model_registry import CHALLENGER, RegisteredVersion

MAKES_ONE = "`modelmill run tiny` makes one"


def serve_command(entry: RegisteredVersion) -> str:
    """The command that serves a version regardless of its gates."""
    named = f"@{CHALLENGER}" if CHALLENGER in entry.aliases else f"/{entry.version}"
    return f"`modelmill serve {entry.model}{named}` serves it as it is"


def suggest_commands(entry: RegisteredVersion, refused: Sequence[GateVerdict] = ()) -> str:
    """Commands, and the fields of a run's config that hold the bounds of ``refused``."""
    promote = f'`modelmill promote {entry.model}/{entry.version} --force --why "…"`'
    ways = [serve_command(entry), f"{promote} makes it the champion"]
    gates = [f"{v.gate}: {v.figure}" for v in refused if not v.rule]
    compared = [v.figure for v in refused if v.rule]
    for field, names in (("promote.gates", gates), ("promote.compare", compared)):
        if names:
            ways.append(f"the bound is in {field} ({', '.join(dict.fromkeys(names))})")
    return ", ".join(ways)


def describe_champion(champion: RegisteredVersion | None) -> str:
    """The champion that goes on being served after a refusal, in words."""
    if champion is None:
        return "there is no champion yet"
    return f"{champion.model}/{champion.version} stays the champion and is served"
