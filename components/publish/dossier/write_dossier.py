"""Writes a version's dossier: model card, data card, pictures, gates, lineage, bill of materials.

One HTML file that asks for nothing from outside (its content policy forbids it), kept among the
version's files in the registry, so that it goes where the version goes and is deleted with it. The
version's description in MLflow is a short model card that leads there.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

import jinja2
from markupsafe import Markup
from pydantic import Field

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings, checkout
from components.core.store.artifact import (
    Bento,
    Checkpoint,
    ModelVersion,
    Report,
    Tokens,
    digest_file,
    digest_value,
)
from components.publish.dossier import dossier_tables, svg_charts
from components.publish.dossier.bill_of_materials import LOCK_FILE, bill_of_materials, read_packages
from components.publish.dossier.dossier_facts import GATES_FILE, Facts, bundle_of, gather
from components.publish.dossier.lineage_tree import lineage_tree
from components.publish.dossier.model_card import card, is_current
from components.publish.dossier.run_stages import stages_of
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.registry.model_registry import (
    CHAMPION,
    Entry,
    entries,
    parse,
    registry_lock,
)
from components.publish.registry.version_description import describe, described

FILE = "dossier.html"
PAGE, STYLE = "page.html.j2", "page.css"
_BACKTICKS = re.compile(r"`([^`\s]+)`")


class DossierConfig(StageConfig):
    """What a dossier is told beside what it finds."""

    purpose: str = Field(
        default="", max_length=2000, description="what the model is meant for, in a sentence or two"
    )
    limits: str = Field(default="", max_length=2000, description="what it should not be used for")
    hour: float | None = Field(
        default=None,
        ge=0,
        description="price of an hour; set by a run that has prices",
    )
    currency: str = Field(default="EUR", min_length=1, max_length=8, description="of the price")


def write_dossier(
    config: DossierConfig, version: ModelVersion, bento: Bento, workspace: Workspace
) -> Change[Report]:
    """Write the dossier of ``version``; unchanged where the file would come out equal.

    Raises:
        ConfigError: the version is not registered.
    """
    name, number = parse(version)
    path, changed = dossier_of(workspace.settings, f"{name}/{number}", config)
    made = _made(path, version, bento, workspace)
    return Change(made, changed, path.relative_to(workspace.settings.home).as_posix())


def _made(path: Path, version: ModelVersion, bento: Bento, workspace: Workspace) -> Report:
    return Report(
        name=f"../{path.parent.relative_to(workspace.settings.home).as_posix()}",
        digest=digest_file(path) if path.is_file() else "",
        lineage=workspace.lineage(
            f"{__name__}.{write_dossier.__name__}", {"version": version, "bento": bento}
        ),
    )


def _is_current(settings: Settings, entry: Entry, path: Path, state: str) -> bool:
    """Whether page and description are already those of ``state``."""
    page = path.is_file() and path.read_text(encoding="utf-8").endswith(_comment(state))
    return page and is_current(described(settings, entry).text, state)


def _comment(state: str) -> str:
    return f"<!-- state {state} -->\n"


def look_for_dossier(
    config: DossierConfig, version: ModelVersion, bento: Bento, workspace: Workspace
) -> Change[Report]:
    """What ``write_dossier`` would leave behind where it is there already; writes nothing."""
    found = entries(workspace.settings)
    entry = _choose(found, version.name.partition(":/")[2])
    path = entry.files(workspace.settings) / FILE
    state = _state(workspace.settings, entry, found, config)
    current = _is_current(workspace.settings, entry, path, state)
    return Change(_made(path, version, bento, workspace), not current)


def dossier_of(
    settings: Settings, model: str, config: DossierConfig | None = None
) -> tuple[Path, bool]:
    """The dossier of MODEL@ALIAS, MODEL/VERSION or MODEL (its newest version), written if need be.

    The version's description in MLflow leads to it, unless a person has written another one.

    Returns:
        The file, and whether it is new or another than before.

    Raises:
        ConfigError: there is no such version.
    """
    found = entries(settings)
    entry, config = _choose(found, model), config or DossierConfig()
    path, state = entry.files(settings) / FILE, _state(settings, entry, found, config)
    if _is_current(settings, entry, path, state):
        return path, False
    facts = gather(settings, entry)
    page = render(settings, facts, config) + _comment(state)
    with registry_lock(settings):
        write_atomically(path, page.encode())
        place = described(settings, entry)
        if not is_current(place.text, state):
            describe(settings, entry, card(settings, facts, place, config.purpose, state))
    return path, True


def _state(settings: Settings, entry: Entry, found: Sequence[Entry], config: DossierConfig) -> str:
    """Names all that page and description were made from: where it is the same, so are they.

    What the store holds is named by the digests among the version's tags.
    """
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), here / PAGE, here / STYLE, checkout(here) / LOCK_FILE]
    gates = entry.files(settings) / GATES_FILE
    champions = [one for one in found if one.model == entry.model and CHAMPION in one.aliases]
    made_from = {
        "tags": dict(entry.tags),
        "aliases": entry.aliases,
        "champion": [dict(one.tags) for one in champions],
        "gates": digest_file(gates) if gates.is_file() else "",
        "stages": asdict(stages_of(settings.runs, entry.uri)),
        "config": config.model_dump(mode="json"),
        "sources": [digest_file(path) for path in sources],
    }
    return digest_value(made_from)


def _choose(found: list[Entry], model: str) -> Entry:
    name, _, alias = model.partition("@")
    name, _, number = name.partition("/")
    for entry in found:
        wanted = str(entry.version) == number if number else not alias or alias in entry.aliases
        if entry.model == name and wanted:
            return entry
    known = sorted(f"{entry.model}/{entry.version}" for entry in found)
    raise ConfigError(
        f"{model}: no such version; there is {', '.join(known) or f'none yet, {MAKES_ONE}'}"
    )


def render(settings: Settings, facts: Facts, config: DossierConfig) -> str:
    """The page. Every text in it is escaped; equal facts give equal bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=svg_charts.number, code=_code)
    packages = read_packages(checkout(Path(__file__).parent))
    bill = bill_of_materials(
        packages, facts.entry.model, str(facts.entry.version), bundle_of(facts.entry)
    )
    return environment.get_template(PAGE).render(
        facts=facts,
        config=config,
        bundle_digest=bundle_of(facts.entry),
        model=facts.node(Checkpoint.format),
        tokens=facts.node(Tokens.format),
        shape=dossier_tables.shape_rows(facts.bundle.get("shape", {})),
        funnel=dossier_tables.bars(facts.funnel),
        curves=[(c, svg_charts.curves(f"{c.stage}: {c.column}", [c.series])) for c in facts.curves],
        headlines=dossier_tables.headlines(facts.gates),
        groups=dossier_tables.groups(facts),
        gates=dossier_tables.verdicts(facts.gates),
        tree=lineage_tree(facts.chain, facts.made.of),
        costs=dossier_tables.costs(facts, config.hour),
        packages=packages,
        bill=f"data:application/json;base64,{b64encode(bill.encode()).decode()}",
    )


def _code(text: str) -> Markup:
    """A text, escaped, with what stands between backticks as code."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", escape(text)))  # noqa: S704 - escaped above
