"""The registry: ``models``, ``promote``, ``rollback``, ``approve``, ``audit``, ``dossier``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.cli.app import Json, Model, app, print_result

Version = Annotated[str, typer.Argument(help="MODEL/VERSION, as `modelmill models` lists them")]
_MAX_WHY_CHARACTERS = 2000


def _check_length(why: str) -> str:
    """The audit log keeps it for ever, and Prefect's form takes no more."""
    if len(why) > _MAX_WHY_CHARACTERS:
        raise ConfigError(f"--why: {len(why)} characters; at most {_MAX_WHY_CHARACTERS}")
    return why


Why = Annotated[
    str, typer.Option(help="the reason; the audit log keeps it", callback=_check_length)
]


@app.command()
def models(as_json: Json = False) -> None:
    """Model versions with their aliases and gates."""
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
        bool, typer.Option("--force", help="although its gates refused; needs --why")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion: alias, Bento tag and running endpoint, or none of them."""
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
        typer.Option(min=1, help="a version that was champion; the last one if left out"),
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Put a former champion back; it is served when this is done."""
    from components.publish.promotion.manual_promotion import roll_back_champion as put_back

    moved = put_back(settings.load_settings(), name, to, why=why)
    print_result(
        as_json, moved.as_json(), lambda console: _print_note(console, moved.note, moved.changed)
    )


@app.command()
def approve(
    version: Annotated[
        str | None, typer.Argument(help="MODEL/VERSION; without one, what waits is listed")
    ] = None,
    yes: Annotated[bool | None, typer.Option("--yes/--no", help="let it through, or not")] = None,
    why: Why = "",
    who: Annotated[str, typer.Option(help="whose word it is; yours if left out")] = "",
    as_json: Json = False,
) -> None:
    """Say yes or no to a version that waits for a person."""
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
        raise ConfigError(f"{version}: say --yes or --no")
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
    verify: Annotated[bool, typer.Option("--verify", help="only say whether it is whole")] = False,
    head: Annotated[
        str, typer.Option(help="with --verify: a sha256 noted earlier that must be in it")
    ] = "",
    as_json: Json = False,
) -> None:
    """Who changed what is served, when and why; every look checks the chain of hashes."""
    from flows.cli.views.workspace_view import show_audit_log

    answer = show_audit_log(settings.load_settings(), verify=verify, head=head)
    print_result(as_json, answer.value, answer.show)


@app.command()
def dossier(
    model: Annotated[str, typer.Argument(help="MODEL/VERSION, MODEL@ALIAS, or MODEL: its newest")],
    output: Annotated[Path | None, typer.Option(help="also write a copy there")] = None,
    as_json: Json = False,
) -> None:
    """One offline HTML file that tells all there is to know of a version."""
    from flows.cli.views.workspace_view import write_dossier

    answer = write_dossier(settings.load_settings(), model, output)
    print_result(as_json, answer.value, answer.show)


def _print_note(console: Console, note: str, changed: bool) -> None:
    console.print(note if changed else f"unchanged: {note}", soft_wrap=True)
