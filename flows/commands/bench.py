"""Measuring: ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.commands.app import Json, app, emit

BENCHES = ("orchestrate",)


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help=f"which: {', '.join(BENCHES)}")] = None,
    files: Annotated[
        list[Path] | None, typer.Argument(help="with --write: objects of earlier benches")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="make the page of these objects")] = None,
    steps: Annotated[int, typer.Option(min=2, max=500, help="length of the no-op chain")] = 30,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="medians of so many")] = 3,
    as_json: Json = False,
) -> None:
    """Figures beside the peers; exit code 1 where one is not as it must be."""
    if write is not None:
        from flows.bench.figures import write_page

        given = [*([Path(name)] if name else []), *(files or [])]
        if not given:
            raise ConfigError("bench --write: name the files that hold the benches' objects")
        count = write_page(write, given)
        told = {"written": str(write), "benches": count}
        emit(as_json, told, lambda console: console.print(f"written: {write}"))
        return
    if name not in BENCHES or files:
        raise ConfigError(f"bench {name or ''}: say which one: {', '.join(BENCHES)}")
    _measure(steps, repeats, as_json)


def _measure(steps: int, repeats: int, as_json: bool) -> None:
    from flows.bench.figures import COLUMNS, rows
    from flows.bench.orchestrate import bench_orchestrate
    from flows.display import rows_table

    aside = Console(stderr=True)
    found = bench_orchestrate(
        settings.load(), steps, repeats, lambda line: aside.print(f"… {line}", highlight=False)
    )
    value = found.as_json()

    def show(console: Console) -> None:
        console.print(rows_table(COLUMNS, rows(value["figures"])))

    emit(as_json, value, show)
    if not found.holds:
        raise typer.Exit(1)
