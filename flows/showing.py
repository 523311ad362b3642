"""``modelmill show`` and ``modelmill models``: what is in the workspace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store import Store
from components.publish.promote import list_versions
from flows.display import duration, quantity, rows_table
from flows.records import read_records

SHOWN_RUNS = 10


@dataclass(frozen=True)
class Answer:
    """One object for ``--json``, and how a person sees it."""

    value: dict[str, Any]
    show: Callable[[Console], None]


def overview(settings: Settings) -> Answer:
    """Runs, sealed artifacts and models."""
    runs = read_records(settings.runs)
    artifacts = [_artifact_line(manifest) for manifest in Store(settings.store).sealed()]
    versions = list_versions(settings)

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
                ("key", "component", "kind", "size", "made in"),
                [
                    (a["key"][:12], a["component"], a["format"], a["size"], a["made in"])
                    for a in artifacts
                ],
            )
        )
        _show_versions(console, versions)

    return Answer({"runs": runs, "artifacts": artifacts, "models": versions}, show)


def model_versions(settings: Settings) -> Answer:
    """Registered versions with their aliases."""
    versions = list_versions(settings)
    return Answer({"models": versions}, lambda console: _show_versions(console, versions))


def write_dossier(settings: Settings, model: str, output: Path | None) -> Answer:
    """A version's dossier, and where it lies.

    Raises:
        ConfigError: there is no such version, or ``output`` cannot be written.
    """
    from components.publish.dossier.write import dossier_of

    path, changed = dossier_of(settings, model)
    if output is not None:
        try:
            shutil.copyfile(path, output)
        except OSError as error:
            raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error
    shown = output or path
    value = {"dossier": str(shown), "changed": changed}
    return Answer(value, lambda console: console.print(str(shown), soft_wrap=True))


def describe(settings: Settings, what: str) -> Answer:
    """One run by its name, or one artifact by the beginning of its key or digest.

    Raises:
        ConfigError: nothing, or more than one thing, is named so.
    """
    if not what:
        raise ConfigError("say which: `modelmill show` lists what there is")
    runs = [run for run in read_records(settings.runs) if run["run"].startswith(what)]
    if runs:
        return Answer(runs[0], lambda console: _show_run(console, runs[0]))
    found = [
        manifest
        for manifest in Store(settings.store).sealed()
        if _key(manifest).startswith(what) or manifest["artifact"]["digest"].startswith(what)
    ]
    if len(found) != 1:
        problem = "nothing is" if not found else f"{len(found)} artifacts are"
        raise ConfigError(f"{what}: {problem} named so; `modelmill show` lists what there is")
    manifest = found[0]
    folder = settings.store / manifest["artifact"]["name"]
    value = {**manifest, "folder": str(folder)}
    return Answer(value, lambda console: console.print_json(data=value))


def _key(manifest: dict[str, Any]) -> str:
    return Path(manifest["artifact"]["name"]).name


def _artifact_line(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": _key(manifest),
        "component": manifest["component"].rpartition(".")[2],
        "format": manifest["format"],
        "digest": manifest["artifact"]["digest"],
        "size": quantity(float(sum(manifest["files"].values()))) + "B",
        "made in": duration(manifest["artifact"]["stats"].get("seconds", 0.0)),
        "stats": manifest["artifact"]["stats"],
    }


def _run_row(run: dict[str, Any]) -> tuple[str, ...]:
    seconds = sum(step["seconds"] for step in run["steps"])
    state = run["state"] + (f": {run['note']}" if run.get("note") else "")
    return run["run"], run["preset"], state, str(len(run["steps"])), f"{seconds:.1f}"


def _show_run(console: Console, run: dict[str, Any]) -> None:
    console.print(f"[bold]{run['run']}[/bold]  {run['state']} {run.get('note', '')}")
    rows = [
        (step["stage"], step["state"], f"{step['seconds']:.1f}", step["digest"][:12], step["note"])
        for step in run["steps"]
    ]
    console.print(rows_table(("stage", "state", "seconds", "digest", "note"), rows))


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
