"""Command line of the benchmarks, to which ``modelmill bench`` hands over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.core import settings
from components.core.errors import ConfigError
from flows.cli.app import Json, print_result
from flows.cli.main import run_app

if TYPE_CHECKING:
    from benchmarks.bench_report import BenchReport

BENCHES = ("orchestrate", "curate", "train")

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help=f"benchmark: {', '.join(BENCHES)}")] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="files with reports that `bench --json` printed, for --write"),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="render these reports as a Markdown page")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=2, max=500, help="`orchestrate`: steps of the no-op chain")
    ] = 30,
    only: Annotated[
        list[str] | None, typer.Option(help="one part of `curate` or `train`; repeatable")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="measurements of which the median is reported")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Measure Modelmill beside other tools; exit code 1 where a figure is outside its bound."""
    if write is not None:
        from benchmarks.bench_report import write_page

        report_files = [*([Path(name)] if name else []), *(files or [])]
        if not report_files:
            raise ConfigError(
                "bench --write: name the files with the reports that `bench --json` printed"
            )
        count = write_page(write, report_files)
        result = {"written": str(write), "benches": count}
        print_result(as_json, result, lambda console: console.print(f"written: {write}"))
        return
    if name not in BENCHES or files:
        raise ConfigError(f"bench {name or ''}: name one of {', '.join(BENCHES)}")
    _show_report(_run_bench(name, steps, only or [], repeats), as_json)


def _run_bench(name: str, steps: int, only: list[str], repeats: int) -> BenchReport:
    error_console = Console(stderr=True)

    def on_progress(line: str) -> None:
        error_console.print(f"… {line}", highlight=False)

    if name == "curate":
        from benchmarks.curate.bench_curate import bench_curate

        return bench_curate(settings.load_settings(), only, repeats, on_progress)
    if name == "train":
        from benchmarks.train.bench_train import bench_train

        return bench_train(settings.load_settings(), only, repeats, on_progress)
    from benchmarks.orchestrate import bench_orchestrate

    return bench_orchestrate(settings.load_settings(), steps, repeats, on_progress)


def _show_report(report: BenchReport, as_json: bool) -> None:
    from benchmarks.bench_report import COLUMNS, format_rows
    from flows.runner.progress_display import rows_table

    value = report.as_json()
    table = rows_table(COLUMNS, format_rows(value["figures"]))
    print_result(as_json, value, lambda console: console.print(table), failed=report.failure)


if __name__ == "__main__":
    run_app(app, "modelmill bench")
