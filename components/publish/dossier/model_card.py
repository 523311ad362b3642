"""Model card as a version's description in MLflow: Markdown that leads to the dossier.

MLflow's own links begin with ``#/``; the run's artifact view shows ``dossier.html`` as a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from components.core.settings import Settings
from components.core.store.artifact import Tokens
from components.publish.dossier.dossier_facts import DossierFacts
from components.publish.dossier.dossier_tables import choose_headlines
from components.publish.dossier.svg_charts import format_number
from components.publish.registry.version_description import VersionDescription
from components.text.base_record import BaseRecord

_MARK = "*Kept by Modelmill, "
_UNMARK = "; take this line out to keep what you write here.*"
_MARK_CHARACTERS = 12


def is_current(text: str, state: str) -> bool:
    """True for a description made with ``state``, and for one that a person wrote."""
    return bool(text.strip()) and (_MARK not in text or text.endswith(_marked(state)))


def render_model_card(
    settings: Settings, facts: DossierFacts, place: VersionDescription, purpose: str, state: str
) -> str:
    """Markdown of key figures, gates and the way to the dossier.

    Args:
        settings: workspace, to which the way to the dossier is relative.
        facts: facts of the version.
        place: where MLflow shows the version's run.
        purpose: a sentence of the user's; may be empty.
        state: digest of everything the dossier is made from; ``is_current`` looks for it.
    """
    entry, run = facts.entry, f"#/experiments/{place.experiment}/runs/{place.run}/artifacts"
    model = entry.source.removeprefix("models:/")
    files = entry.files_folder(settings).relative_to(settings.home).as_posix()
    dossier = f"**[Open the dossier]({run}/dossier.html)**"
    where = f"[all files](#/experiments/{place.experiment}/models/{model}/artifacts)"
    parts = [
        *([purpose] if purpose else []),
        _sizes(facts),
        *(_describe_base(record) for record in facts.bases),
        *(f"`{stage}`: {note}" for stage, note in facts.notes),
        f"{dossier} · {where} · `{files}/dossier.html` in the workspace",
        *_figures(choose_headlines(facts.gates)),
        _gates(facts.gates),
        _marked(state),
    ]
    return "\n\n".join(part for part in parts if part)


def _marked(state: str) -> str:
    return f"{_MARK}{state[:_MARK_CHARACTERS]}{_UNMARK}"


def _sizes(facts: DossierFacts) -> str:
    tokens = facts.node(Tokens.format)
    sizes = [
        f"{format_number(facts.bundle[name])} {unit}"
        for name, unit in (("parameters", "parameters"), ("context", "tokens of context"))
        if facts.bundle.get(name)
    ]
    # A base was trained elsewhere; here its tokens are measured on.
    if tokens is not None and "train_tokens" in tokens.stats and not facts.bases:
        sizes.append(f"trained on {format_number(tokens.stats['train_tokens'])} tokens")
    sizes += [
        f"{format_number(value)} {name}"
        for name, value in facts.funnel
        if name in ("documents kept", "conversations kept")
    ]
    return " · ".join(sizes)


def _describe_base(record: BaseRecord) -> str:
    """Name, licence and digest of somebody's model, whose terms hold for what is made of it."""
    stated = f" ({escape(record.licence_file)})" if record.licence_file else ""
    licence = f"**{escape(record.licence_name)}**{stated}"
    return (
        f"Made of **{escape(record.label)}**, {record.architecture}. Licence: {licence}. "
        f"sha256 of its weights: `{record.weights_sha256}`"
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["| figure | value | 95 % interval |", "|:---|---:|:---|"]
    lines += [
        f"| {row['name']} | {format_number(row['value'])} "
        f"| {format_number(row['low'])} … {format_number(row['high'])} |"
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
        bound = gate["bound_is"] if gate["bound"] is None else format_number(gate["bound"])
        lines.append(
            f"* {gate['gate']}: {gate['figure']} {format_number(gate['found'])}, "
            f"must be {gate['direction']} {bound}"
        )
    return "\n".join(lines)
