"""Dossier of a version: model card, data card, charts, gates, lineage, bill of materials.

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

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings, own_checkout
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
from components.publish.dossier.bill_of_materials import LOCK_FILE, read_packages, render_bill
from components.publish.dossier.dossier_facts import (
    GATES_FILE,
    DossierFacts,
    bundle_digest,
    gather_facts,
)
from components.publish.dossier.lineage_tree import lineage_tree
from components.publish.dossier.model_card import is_current, render_model_card
from components.publish.dossier.run_stages import read_run_stages
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.registry.model_registry import (
    CHAMPION,
    DOSSIER_FILE,
    RegisteredVersion,
    list_versions,
    parse_version,
    registry_lock,
)
from components.publish.registry.version_description import read_description, write_description

PAGE, STYLE = "page.html.j2", "page.css"
_BACKTICKS = re.compile(r"`([^`\s]+)`")


class DossierConfig(StageConfig):
    """Texts and prices that a dossier shows beside the facts it finds."""

    purpose: str = Field(
        default="", max_length=2000, description="intended use of the model, in a sentence or two"
    )
    limits: str = Field(
        default="", max_length=2000, description="uses that the model is not meant for"
    )
    hour: float | None = Field(
        default=None,
        ge=0,
        description="price of an hour; set by a run that has prices",
    )
    currency: str = Field(
        default="EUR", min_length=1, max_length=8, description="currency of the price"
    )


def dry_run_dossier(
    config: DossierConfig, version: ModelVersion, bento: Bento, workspace: Workspace
) -> Change[Report]:
    """Look for a dossier of the version that tells of its present state.

    Args:
        config: texts and prices.
        version: a registered version.
        bento: Bento packed from the version.
        workspace: workspace whose registry holds the version.
    """
    versions = list_versions(workspace.settings)
    entry = _choose(versions, version.name.partition(":/")[2])
    path = entry.files_folder(workspace.settings) / DOSSIER_FILE
    state = _state(workspace.settings, entry, versions, config)
    current = _is_current(workspace.settings, entry, path, state)
    return Change(_made(path, version, bento, workspace), not current)


@action(dry_run=dry_run_dossier)
def write_dossier(
    config: DossierConfig, version: ModelVersion, bento: Bento, workspace: Workspace
) -> Change[Report]:
    """Write the dossier of ``version``; unchanged where the file would come out equal.

    Args:
        config: texts and prices.
        version: a registered version.
        bento: Bento packed from the version.
        workspace: holds the registry and the store.

    Raises:
        ConfigError: the version is not registered.
    """
    name, number = parse_version(version)
    path, changed = ensure_dossier(workspace.settings, f"{name}/{number}", config)
    made = _made(path, version, bento, workspace)
    return Change(made, changed, path.relative_to(workspace.settings.home).as_posix())


def _made(path: Path, version: ModelVersion, bento: Bento, workspace: Workspace) -> Report:
    return Report(
        name=f"../{path.parent.relative_to(workspace.settings.home).as_posix()}",
        digest=digest_file(path) if path.is_file() else "",
        lineage=workspace.action_lineage(write_dossier, {"version": version, "bento": bento}),
    )


def _is_current(settings: Settings, entry: RegisteredVersion, path: Path, state: str) -> bool:
    """True where page and description are already those of ``state``."""
    page = path.is_file() and path.read_text(encoding="utf-8").endswith(_comment(state))
    return page and is_current(read_description(settings, entry).text, state)


def _comment(state: str) -> str:
    return f"<!-- state {state} -->\n"


def ensure_dossier(
    settings: Settings, model: str, config: DossierConfig | None = None
) -> tuple[Path, bool]:
    """The dossier of a version, written where it is not current.

    The version's description in MLflow leads to it, unless a person has written another one.

    Args:
        settings: workspace whose registry and store hold the facts.
        model: MODEL@ALIAS, MODEL/VERSION or MODEL (its newest version).
        config: texts and prices; the defaults where it is None.

    Returns:
        The file, and whether it is new or another than before.

    Raises:
        ConfigError: there is no such version.
    """
    versions = list_versions(settings)
    entry, config = _choose(versions, model), config or DossierConfig()
    path, state = (
        entry.files_folder(settings) / DOSSIER_FILE,
        _state(settings, entry, versions, config),
    )
    if _is_current(settings, entry, path, state):
        return path, False
    facts = gather_facts(settings, entry)
    page = render_page(facts, config) + _comment(state)
    with registry_lock(settings):
        write_atomically(path, page.encode())
        place = read_description(settings, entry)
        if not is_current(place.text, state):
            write_description(
                settings, entry, render_model_card(settings, facts, place, config.purpose, state)
            )
    return path, True


def _state(
    settings: Settings,
    entry: RegisteredVersion,
    versions: Sequence[RegisteredVersion],
    config: DossierConfig,
) -> str:
    """Digest of all that page and description are made from: where it is equal, so are they.

    The store's content is named by the digests among the version's tags.
    """
    here = Path(__file__).parent
    sources = [
        *sorted(here.glob("*.py")),
        here / PAGE,
        here / STYLE,
        own_checkout() / LOCK_FILE,
    ]
    gates = entry.files_folder(settings) / GATES_FILE
    champions = [
        other for other in versions if other.model == entry.model and CHAMPION in other.aliases
    ]
    made_from = {
        "tags": dict(entry.tags),
        "aliases": entry.aliases,
        "champion": [dict(other.tags) for other in champions],
        "gates": digest_file(gates) if gates.is_file() else "",
        "stages": asdict(read_run_stages(settings.runs, entry.uri)),
        "config": config.model_dump(mode="json"),
        "sources": [digest_file(path) for path in sources],
    }
    return digest_value(made_from)


def _choose(versions: list[RegisteredVersion], model: str) -> RegisteredVersion:
    name, _, alias = model.partition("@")
    name, _, number = name.partition("/")
    for entry in versions:
        wanted = str(entry.version) == number if number else not alias or alias in entry.aliases
        if entry.model == name and wanted:
            return entry
    known = sorted(f"{entry.model}/{entry.version}" for entry in versions)
    raise ConfigError(
        f"{model}: no such version; there is {', '.join(known) or f'none yet, {MAKES_ONE}'}"
    )


def render_page(facts: DossierFacts, config: DossierConfig) -> str:
    """The page as HTML. Every text in it is escaped; equal facts give equal bytes.

    Args:
        facts: facts of the version.
        config: texts and prices.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=svg_charts.format_number, code=_code)
    packages = read_packages(own_checkout())
    bill = render_bill(
        packages, facts.entry.model, str(facts.entry.version), bundle_digest(facts.entry)
    )
    return environment.get_template(PAGE).render(
        facts=facts,
        config=config,
        bundle_digest=bundle_digest(facts.entry),
        model=facts.node(Checkpoint.format),
        tokens=facts.node(Tokens.format),
        shape=dossier_tables.shape_rows(facts.bundle.get("shape", {})),
        funnel=dossier_tables.make_bars(facts.funnel),
        curves=[
            (c, svg_charts.draw_curves(f"{c.stage}: {c.column}", [c.series])) for c in facts.curves
        ],
        headlines=dossier_tables.choose_headlines(facts.gates),
        groups=dossier_tables.group_figures(facts),
        gates=dossier_tables.draw_verdicts(facts.gates),
        tree=lineage_tree(facts.chain, facts.run_stages.of),
        costs=dossier_tables.sum_costs(facts, config.hour),
        packages=packages,
        bill=f"data:application/json;base64,{b64encode(bill.encode()).decode()}",
    )


def _code(text: str) -> Markup:
    """A text, escaped, with the words between backticks as code."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", escape(text)))  # noqa: S704 - escaped above
