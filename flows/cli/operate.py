"""Commands that serve a model and run the platform: ``serve``, ``up``, ``status``, ``down``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from components.core import settings
from flows.cli.app import Json, app, print_result
from serving.engine_program import EngineName

LIMITS = "Limits (in place of those that the model was packed with)"


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="MODEL@ALIAS or MODEL/VERSION; by default the champion that moved last."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback requires MODELMILL_API_KEY.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="onnx computes on processors; vllm (experimental) runs the Hugging Face form on "
            "GPUs, by a vLLM that MODELMILL_VLLM names; auto is onnx."
        ),
    ] = "auto",
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="LoRA adapter in PEFT's format, or a checkpoint that was trained with one, served "
            "as NAME beside the model it was trained on; give it once for each.",
        ),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(help="Answers decoded together.", rich_help_panel=LIMITS)
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            help="Requests that may wait for a slot; more get 429.", rich_help_panel=LIMITS
        ),
    ] = None,
    wait_seconds: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a request may expect to wait for a slot, by the pace at which slots "
            "become free; beyond it, more than there are slots get 429.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a prompt and its answer together, up to the model's.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Cores of the model; by default as many as are measured to be quickest.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    prefill_tokens: Annotated[
        int | None,
        typer.Option(help="Prompt tokens read between two decoding steps.", rich_help_panel=LIMITS),
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(help="Largest request that is read.", rich_help_panel=LIMITS)
    ] = None,
    body_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds for a request to arrive.", rich_help_panel=LIMITS),
    ] = None,
    send_seconds: Annotated[
        float | None,
        typer.Option(
            help="Seconds for a client to read its waiting answer; a slower one is disconnected.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    embedding_inputs: Annotated[
        int | None,
        typer.Option(help="Texts in a request for embeddings.", rich_help_panel=LIMITS),
    ] = None,
    embedding_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of all texts in a request for embeddings together.", rich_help_panel=LIMITS
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86400,
            help="Seconds that answers in progress go on after SIGTERM, while new requests get "
            "503; the rest then ends with an error. Ctrl+C cuts at once. Default: 25, or "
            "MODELMILL_DRAIN_SECONDS.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve a model at an OpenAI-compatible endpoint until Ctrl-C."""
    from serving.serve_model import serve_forever

    limits = {
        "slots": slots,
        "queue": queue,
        "wait_seconds": wait_seconds,
        "context": context,
        "threads": threads,
        "prefill_tokens": prefill_tokens,
        "body_bytes": max_body_bytes,
        "body_seconds": body_seconds,
        "send_seconds": send_seconds,
        "embedding_inputs": embedding_inputs,
        "embedding_tokens": embedding_tokens,
    }
    serve_forever(
        settings.load_settings(),
        model,
        host=host,
        port=port,
        engine=engine,
        adapters=adapter or (),
        as_json=as_json,
        limits={name: value for name, value in limits.items() if value is not None},
        drain_seconds=drain_seconds,
    )


@app.command()
def up(
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Run in the background: return when every service answers; `down` ends it.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Model to serve; by default the one whose champion moved last."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the endpoint.")] = 3000,
    prefect_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the Prefect server.")
    ] = 4200,
    mlflow_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")
    ] = 5000,
    wait: Annotated[
        float, typer.Option(min=1, help="Seconds within which each service must answer.")
    ] = 120.0,
    as_json: Json = False,
) -> None:
    """Run Prefect server and worker, MLflow UI and the champion's endpoint, on loopback only."""
    from flows.operations.up.run_platform import run_platform, run_platform_detached
    from flows.operations.up.services import Ports
    from flows.operations.up.up_options import UpOptions

    ports = Ports(endpoint=port, prefect=prefect_port, mlflow=mlflow_port)
    options = UpOptions(ports, wait, model)
    console = Console(stderr=as_json)

    def print_platform(value: dict[str, Any]) -> None:
        if as_json:
            print_result(True, value, lambda _: None)
            sys.stdout.flush()  # its reader does not wait for the end of `up`

    if detach:
        print_platform(run_platform_detached(settings.load_settings(), options, console))
    else:
        stop = run_platform(settings.load_settings(), options, console, print_platform)
        if stop is not None:
            raise typer.Exit(stop.exit_code)


@app.command()
def status(as_json: Json = False) -> None:
    """Show running services with start time and memory, the newest runs and the champions."""
    from flows.operations.up.platform_status import read_platform_status

    platform = read_platform_status(settings.load_settings())
    print_result(as_json, platform.as_json(), platform.show)


@app.command()
def down(as_json: Json = False) -> None:
    """Stop everything that `up` started."""
    from flows.operations.up.run_platform import end_platform

    count = end_platform(settings.load_settings())
    line = f"ended {count} processes" if count else "nothing is running"
    print_result(as_json, {"ended": count}, lambda console: console.print(line))
