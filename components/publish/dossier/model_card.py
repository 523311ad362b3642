"""The model card that stands as a version's description in MLflow: Markdown, with the way on.

MLflow's own links begin with ``#/``; the run's artifact view shows ``dossier.html`` as a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.settings import Settings
from components.core.store.artifact import Tokens
from components.publish.dossier.dossier_facts import Facts
from components.publish.dossier.dossier_tables import headlines
from components.publish.dossier.svg_charts import number
from components.publish.registry.version_description import Described

_MARK = "*Kept by Modelmill, "
_UNMARK = "; take this line out to keep what you write here.*"
_MARK_CHARACTERS = 12


def is_current(text: str, state: str) -> bool:
    """Whether a description is that of the dossier with ``state``, or is a person's own."""
    return bool(text.strip()) and (_MARK not in text or text.endswith(_marked(state)))


def card(settings: Settings, facts: Facts, place: Described, purpose: str, state: str) -> str:
    """The description: key figures, gates, where the dossier is."""
    entry, run = facts.entry, f"#/experiments/{place.experiment}/runs/{place.run}/artifacts"
    model = entry.source.removeprefix("models:/")
    files = entry.files(settings).relative_to(settings.home).as_posix()
    dossier = f"**[Open the dossier]({run}/dossier.html)**"
    where = f"[all files](#/experiments/{place.experiment}/models/{model}/artifacts)"
    parts = [
        *([purpose] if purpose else []),
        _sizes(facts),
        *(f"`{stage}`: {note}" for stage, note in facts.notes),
        f"{dossier} · {where} · `{files}/dossier.html` in the workspace",
        *_figures(headlines(facts.gates)),
        _gates(facts.gates),
        _marked(state),
    ]
    return "\n\n".join(part for part in parts if part)


def _marked(state: str) -> str:
    return f"{_MARK}{state[:_MARK_CHARACTERS]}{_UNMARK}"


def _sizes(facts: Facts) -> str:
    tokens = facts.node(Tokens.format)
    told = [
        f"{number(facts.bundle[name])} {unit}"
        for name, unit in (("parameters", "parameters"), ("context", "tokens of context"))
        if facts.bundle.get(name)
    ]
    if tokens is not None and "train_tokens" in tokens.stats:
        told.append(f"trained on {number(tokens.stats['train_tokens'])} tokens")
    told += [f"{number(value)} {name}" for name, value in facts.funnel if name == "documents kept"]
    return " · ".join(told)


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["| figure | value | 95 % interval |", "|:---|---:|:---|"]
    lines += [
        f"| {row['name']} | {number(row['value'])} | {number(row['low'])} … {number(row['high'])} |"
        for row in rows
    ]
    return ["\n".join(lines)]


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    if not gates:
        return "Not judged by a gate."
    refused = [gate for gate in gates if not gate["passes"]]
    if not refused:
        names = ", ".join(dict.fromkeys(gate["gate"] for gate in gates))
        return f"Passed {len(gates)} gates: {names}."
    lines = [f"**Refused by {len(refused)} of {len(gates)} gates:**", ""]
    for gate in refused:
        bound = gate["bound_is"] if gate["bound"] is None else number(gate["bound"])
        lines.append(
            f"* {gate['gate']}: {gate['figure']} {number(gate['found'])}, "
            f"must be {gate['direction']} {bound}"
        )
    return "\n".join(lines)
