"""Commands on model versions: ``models``, ``approve``, ``promote``, ``rollback`` and others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.cli.app import Json, Model, app, print_result

Version = Annotated[str, typer.Argument(help="MODEL/VERSION, as `modelmill models` lists it.")]
_MAX_WHY_CHARACTERS = 2000
"""Length of a reason that Prefect's form accepts too."""


def _check_length(why: str) -> str:
    """Refuse a longer reason: the audit log keeps it for ever, and Prefect's form takes no more."""
    if len(why) > _MAX_WHY_CHARACTERS:
        raise ConfigError(f"--why: {len(why)} characters; at most {_MAX_WHY_CHARACTERS}")
    return why


Why = Annotated[
    str, typer.Option(help="Reason, which the audit log keeps.", callback=_check_length)
]


@app.command()
def models(as_json: Json = False) -> None:
    """List model versions with their aliases and gates."""
    from components.publish.promotion.promotion_record import recover_promotion
    from flows.cli.views.workspace_view import list_model_versions

    workspace = settings.load_settings()
    recover_promotion(workspace, wait=False)
    answer = list_model_versions(workspace)
    print_result(as_json, answer.value, answer.show)


@app.command()
def promote(
    version: Version,
    why: Why = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote a version that its gates refused; requires --why."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion: alias, Bento tag and endpoint change together or not at all."""
    from components.publish.promotion.manual_promotion import parse_named, promote_manually

    model, number = parse_named(version)
    moved = promote_manually(settings.load_settings(), model, number, why=why, force=force)
    print_result(
        as_json, moved.as_json(), lambda console: _print_note(console, moved.note, moved.changed)
    )


@app.command()
def rollback(
    name: Model,
    to: Annotated[
        int | None,
        typer.Option(
            min=1, help="Version that was champion before; by default the previous champion."
        ),
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Make a former champion the champion again; it is served when the command ends."""
    from components.publish.promotion.manual_promotion import roll_back_champion as put_back

    moved = put_back(settings.load_settings(), name, to, why=why)
    print_result(
        as_json, moved.as_json(), lambda console: _print_note(console, moved.note, moved.changed)
    )


@app.command()
def approve(
    version: Annotated[
        str | None,
        typer.Argument(
            help="MODEL/VERSION; without it, the versions that wait for approval are listed."
        ),
    ] = None,
    yes: Annotated[
        bool | None, typer.Option("--yes/--no", help="Approve or reject the version.")
    ] = None,
    why: Why = "",
    who: Annotated[str, typer.Option(help="Name of the deciding person; by default you.")] = "",
    as_json: Json = False,
) -> None:
    """Approve or reject a version whose promotion waits for a person."""
    from components.publish.promotion.approvals import find_pending, record_decision
    from components.publish.promotion.manual_promotion import parse_named
    from flows.cli.views.workspace_view import list_waiting_approvals
    from flows.runner.prefect.prefect_approvals import describe_follow_up

    workspace = settings.load_settings()
    if version is None:
        answer = list_waiting_approvals(workspace)
        print_result(as_json, answer.value, answer.show)
        return
    pending = find_pending(workspace, *parse_named(version))
    if yes is None:
        raise ConfigError(f"{version}: decide with --yes or --no")
    decision = record_decision(workspace, pending, yes, who, why)
    outcome = "approved" if decision.yes else "rejected"
    facts: dict[str, Any] = {"version": version, "decision": outcome, "who": decision.who}
    next_step = describe_follow_up(workspace, pending, decision.yes)
    line = "; ".join(part for part in (f"{version} {outcome} by {decision.who}", next_step) if part)
    print_result(
        as_json,
        facts | {"why": decision.why, "next": next_step},
        lambda console: console.print(line, soft_wrap=True, markup=False),
    )


@app.command()
def audit(
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the chain of hashes without printing the entries."),
    ] = False,
    head: Annotated[
        str, typer.Option(help="SHA-256 of an entry, noted earlier, that the log must contain.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show who changed which model is served, when and why; check the log's chain of hashes."""
    from flows.cli.views.workspace_view import show_audit_log

    answer = show_audit_log(settings.load_settings(), verify=verify, head=head)
    print_result(as_json, answer.value, answer.show)


@app.command()
def dossier(
    model: Annotated[
        str, typer.Argument(help="MODEL/VERSION, MODEL@ALIAS, or MODEL for its newest version.")
    ],
    output: Annotated[Path | None, typer.Option(help="File to write a copy to.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a model version as one HTML file that needs no network."""
    from flows.cli.views.workspace_view import write_dossier

    answer = write_dossier(settings.load_settings(), model, output)
    print_result(as_json, answer.value, answer.show)


def _print_note(console: Console, note: str, changed: bool) -> None:
    console.print(note if changed else f"unchanged: {note}", soft_wrap=True)
