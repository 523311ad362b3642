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

HAVE_PARTS = ("curate", "serve", "train")
"""Benchmarks of several parts, of which ``--only`` names some."""
BENCHES = ("orchestrate", *HAVE_PARTS)

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help=f"Benchmark: {', '.join(BENCHES)}.")] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files with reports that `bench --json` printed, for --write."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Markdown page to render these reports to.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=2, max=500, help="Steps of the no-op chain of `orchestrate`.")
    ] = 30,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Part of `curate`, `serve` or `train` to measure; repeatable."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="Measurements, of which the median is reported.")
    ] = 3,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=10_000, help="Length of the part `soak` of `serve`.")
    ] = 30.0,
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
    if name not in BENCHES:
        given = f"bench {name}: no such benchmark" if name else "bench: no benchmark is named"
        raise ConfigError(f"{given}; there are {', '.join(BENCHES)}")
    if files:
        raise ConfigError(f"bench {name} {files[0]}: files of reports are given with --write PAGE")
    if only and name not in HAVE_PARTS:
        raise ConfigError(f"bench {name}: --only names a part of {', '.join(HAVE_PARTS)}")
    _show_report(_run_bench(name, steps, only or [], repeats, minutes), as_json)


def _run_bench(name: str, steps: int, only: list[str], repeats: int, minutes: float) -> BenchReport:
    error_console = Console(stderr=True)

    def on_progress(line: str) -> None:
        error_console.print(f"… {line}", highlight=False)

    if name == "curate":
        from benchmarks.curate.bench_curate import bench_curate

        return bench_curate(settings.load_settings(), only, repeats, on_progress)
    if name == "train":
        from benchmarks.train.bench_train import bench_train

        return bench_train(settings.load_settings(), only, repeats, on_progress)
    if name == "serve":
        from benchmarks.serve.bench_serve import bench_serve

        return bench_serve(settings.load_settings(), only, repeats, on_progress, minutes)
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
