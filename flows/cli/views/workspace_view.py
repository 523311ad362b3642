"""Views of ``show``, ``models``, ``approve``, ``audit`` and ``dossier``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.core.store.store import Store
from components.core.store.workdir import stage_name
from components.publish.promotion import audit_log
from components.publish.promotion.approvals import list_pending
from components.publish.promotion.promote import describe_versions
from components.publish.registry.model_registry import CHAMPION
from flows.runner.progress_display import format_duration, format_quantity, gates_table, rows_table
from flows.runner.run_records import read_records
from flows.runner.sample_answers import answers_of_run

SHOWN_RUNS = 10
SHOWN_KEY = 12


@dataclass(frozen=True)
class CommandResult:
    """Result of a command: the object for ``--json``, and a function that prints it."""

    value: dict[str, Any]
    show: Callable[[Console], None]


def summarize_workspace(settings: Settings) -> CommandResult:
    """Summarize runs, sealed artifacts and models."""
    runs = read_records(settings.runs)
    artifacts = [_artifact_line(manifest) for manifest in Store(settings.store).sealed_manifests()]
    versions = describe_versions(settings)

    def show(console: Console) -> None:
        if not runs:
            console.print("nothing here yet; next: [bold]modelmill run tiny[/bold]")
            return
        console.print("[bold]runs[/bold] (newest first)")
        console.print(
            rows_table(
                ("run", "preset", "state", "steps", "seconds"),
                [_run_row(run) for run in runs[:SHOWN_RUNS]],
            )
        )
        console.print(f"\n[bold]artifacts[/bold] in {settings.store}")
        console.print(
            rows_table(
                ("key", "stage", "kind", "size", "made in"),
                [
                    (a["key"][:SHOWN_KEY], a["stage"], a["format"], a["size"], a["made in"])
                    for a in artifacts
                ],
            )
        )
        _show_versions(console, versions)

    return CommandResult({"runs": runs, "artifacts": artifacts, "models": versions}, show)


def list_model_versions(settings: Settings) -> CommandResult:
    """List registered versions with their aliases and, once evaluated, their gates."""
    versions = describe_versions(settings)

    def show(console: Console) -> None:
        _show_versions(console, versions)
        for version in versions:
            aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
            console.print(
                f"\n[bold]{version['model']} version {version['version']}[/bold]{aliases}: "
                f"{version['state']}"
            )
            if version["gates"]:
                console.print(gates_table(version["gates"]))

    return CommandResult({"models": versions}, show)


def list_waiting_approvals(settings: Settings) -> CommandResult:
    """List versions that passed their gates and wait for approval."""
    waiting = list_pending(settings)

    def show(console: Console) -> None:
        if not waiting:
            console.print("nothing waits for approval")
            return
        rows = [
            (p.named, p.since, "none" if p.champion is None else str(p.champion)) for p in waiting
        ]
        console.print(rows_table(("version", "since", "present champion"), rows))
        for pending in waiting:
            console.print(f"\n[bold]{pending.named}[/bold]")
            console.print(gates_table(pending.verdicts))

    return CommandResult(
        {"waiting": [pending.model_dump(mode="json") for pending in waiting]}, show
    )


def show_audit_log(settings: Settings, *, verify: bool = False, head: str = "") -> CommandResult:
    """Read the audit log and check its chain of hashes.

    Args:
        settings: workspace whose log is read.
        verify: True leaves the entries themselves out.
        head: SHA-256 that one entry must have; empty for none.

    Raises:
        DataError: the chain is broken at a named entry, or no entry has the SHA-256 ``head``.
    """
    entries = audit_log.read_entries(settings)
    newest = entries[-1].sha256 if entries else ""
    if head and head not in {entry.sha256 for entry in entries}:
        raise DataError(
            f"no entry has the sha256 {head}: this is another log than the one it was in"
        )
    served = any(CHAMPION in version["aliases"] for version in describe_versions(settings))
    value: dict[str, Any] = {
        "entries": len(entries),
        "whole": True,
        "head": newest,
        "missing": served and not entries,
    }
    if not verify:
        value["log"] = [asdict(entry) for entry in entries]

    def show(console: Console) -> None:
        if entries and not verify:
            rows = [(e.sequence, e.time[:19], e.event, e.who, _facts_line(e)) for e in entries]
            console.print(rows_table(("", "UTC", "event", "who", "what"), rows))
        console.print(f"whole: {len(entries)} entries; head {newest or 'none'}", soft_wrap=True)
        if value["missing"]:
            console.print("but models are served: the log of their promotions is missing")

    return CommandResult(value, show)


def _facts_line(entry: audit_log.AuditEntry) -> str:
    """Facts of an entry in a line: the version first, machine-readable facts left out.

    The deciding person is named only if it is not the user whose process wrote the entry.
    """
    own = (entry.who, f"approved by {entry.who}")
    facts = {key: value for key, value in entry.facts.items() if value not in own}
    machine = {"token", "bundle", "gates", "model", "version", "former_bento"}
    version = facts.get("version")
    named = f"{facts.get('model', '')}{f'/{version}' if version is not None else ''}"
    rest = (
        f"{key.replace('_', ' ')} {value}"
        for key, value in facts.items()
        if key not in machine and value
    )
    return "; ".join(part for part in (named, *rest) if part)


def write_dossier(settings: Settings, model: str, output: Path | None) -> CommandResult:
    """Write a version's dossier, or find the current one.

    Args:
        settings: workspace that holds the version and keeps its dossier.
        model: MODEL/VERSION, MODEL@ALIAS or MODEL.
        output: file for a copy; None for no copy.

    Raises:
        ConfigError: there is no such version, or ``output`` cannot be written.
    """
    from components.publish.dossier.write_dossier import ensure_dossier

    path, changed = ensure_dossier(settings, model)
    if output is not None:
        try:
            shutil.copyfile(path, output)
        except OSError as error:
            raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error
    shown = output or path
    value = {"dossier": str(shown), "changed": changed}
    return CommandResult(value, lambda console: console.print(str(shown), soft_wrap=True))


def describe_run_or_artifact(settings: Settings, what: str) -> CommandResult:
    """Describe a run by its name, or an artifact by the beginning of its key or digest.

    Raises:
        ConfigError: no run or artifact, or more than one artifact, matches.
    """
    if not what:
        raise ConfigError("name a run or an artifact: `modelmill show` lists them")
    runs = [run for run in read_records(settings.runs) if run["run"].startswith(what)]
    if runs:
        return _describe_run(settings, runs[0])
    manifests = [
        manifest
        for manifest in Store(settings.store).sealed_manifests()
        if _key(manifest).startswith(what) or manifest["artifact"]["digest"].startswith(what)
    ]
    if len(manifests) != 1:
        count = f"{len(manifests)} artifacts match" if manifests else "no run or artifact matches"
        raise ConfigError(f"{what}: {count}; `modelmill show` lists what there is")
    manifest = manifests[0]
    folder = settings.store / manifest["artifact"]["name"]
    value = {**manifest, "folder": str(folder)}
    return CommandResult(value, lambda console: console.print_json(data=value))


def _key(manifest: dict[str, Any]) -> str:
    return Path(manifest["artifact"]["name"]).name


def _artifact_line(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": _key(manifest),
        "stage": stage_name(manifest, manifest["component"]),
        "component": manifest["component"],
        "format": manifest["format"],
        "digest": manifest["artifact"]["digest"],
        "size": format_quantity(float(sum(manifest["files"].values()))) + "B",
        "made in": format_duration(manifest["artifact"]["stats"].get("seconds", 0.0)),
        "stats": manifest["artifact"]["stats"],
    }


def _run_row(run: dict[str, Any]) -> tuple[str, ...]:
    seconds = sum(step["seconds"] for step in run["steps"])
    state = run["state"] + (f": {run['note']}" if run.get("note") else "")
    return run["run"], run["preset"], state, str(len(run["steps"])), f"{seconds:.1f}"


def _describe_run(settings: Settings, run: dict[str, Any]) -> CommandResult:
    steps = ((step["stage"], step["artifact"]) for step in run["steps"])
    answers = answers_of_run(settings.store, steps)

    def show(console: Console) -> None:
        _show_run(console, run)
        answers.show(console)

    return CommandResult({**run, "answers": answers.as_json()}, show)


def _show_run(console: Console, run: dict[str, Any]) -> None:
    console.print(f"[bold]{run['run']}[/bold]  {run['state']} {escape(run.get('note', ''))}")
    rows = [
        (step["stage"], step["state"], f"{step['seconds']:.1f}", _shown_key(step), step["note"])
        for step in run["steps"]
    ]
    console.print(rows_table(("stage", "state", "seconds", "key", "note"), rows))


def _shown_key(step: dict[str, Any]) -> str:
    """Beginning of the key of a step's artifact; empty for an action, which seals none."""
    name = Path(step["artifact"])
    return name.name[:SHOWN_KEY] if name.parent.name == "sealed" else ""


def _show_versions(console: Console, versions: list[dict[str, Any]]) -> None:
    if not versions:
        console.print("\nno model is registered yet")
        return
    console.print("\n[bold]models[/bold]")
    rows = [
        (v["model"], v["version"], ", ".join(v["aliases"]), v.get("digest", "")[:12])
        for v in versions
    ]
    console.print(rows_table(("model", "version", "aliases", "bundle"), rows))
    for version in versions:
        if version["forgotten"]:
            named = f"{version['model']} version {version['version']}"
            line = f"{named} was made of what is to be forgotten: {version['forgotten']}"
            console.print(line, markup=False)
