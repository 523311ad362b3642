"""Smoke test of a Bento: served as in production, asked over HTTP with the ``openai`` client."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.errors import GateFailed, MillError, error_line
from components.core.io.locks import hold_lock
from components.core.stats.figures import Figure, exact_figure, mean_interval, read_report_content
from components.core.stats.report_config import ReportConfig
from components.core.store.artifact import (
    Bento,
    Report,
    digest_folder,
    digest_value,
    placeholder_artifact,
)
from components.publish.bento_folders import SMOKE_FOLDER
from serving.engine.served_folder import Endpoint, read_endpoint
from serving.gateway.server_process import log_tail, run_server

if TYPE_CHECKING:
    from openai import OpenAI


class SmokeConfig(ReportConfig):
    """Questions of a smoke test, and its patience."""

    figures: ClassVar = ("time_to_first_token", "tokens_per_second", "startup", "answer_tokens")

    question: str = Field(
        default="What does json.dumps do?", min_length=1, description="question of every request"
    )
    max_tokens: int = Field(default=48, ge=1, le=4096, description="most tokens of an answer")
    streams: int = Field(default=5, ge=1, le=1000, description="timed streams")
    ready_seconds: float = Field(
        default=60.0, gt=0, description="longest wait until the server is ready, in seconds"
    )
    answer_seconds: float = Field(
        default=30.0, gt=0, description="longest wait for an answer, in seconds"
    )


class _EmptyAnswer(Exception):
    """The server works and the model ends at once: its log tells nothing of why."""


class _WrongAnswer(Exception):
    """An answer that is not as it should be."""


def dry_run_smoke(config: SmokeConfig, bento: Bento, workspace: Workspace) -> Change[Report]:
    """Look for a kept outcome of this Bento.

    Args:
        config: questions and patience.
        bento: would be tested.
        workspace: holds the outcome.
    """
    folder, key = _report_place(config, bento, workspace)
    if not _is_kept(folder, key):
        return Change(placeholder_artifact(Report), changed=True)
    return Change(_report_artifact(folder, bento, workspace), changed=False)


@action(dry_run=dry_run_smoke)
def smoke(config: SmokeConfig, bento: Bento, workspace: Workspace) -> Change[Report]:
    """Test a Bento; the outcome is kept, so an unchanged Bento is not tested again.

    Args:
        config: questions and patience.
        bento: is tested.
        workspace: holds the outcome.

    Raises:
        GateFailed: an answer was wrong or none came; ends with the server's last output.
    """
    settings = workspace.settings
    packed = workspace.artifact_folder(bento).resolve()
    kept_folder, key = _report_place(config, bento, workspace)
    with hold_lock(settings.bentos / "smoke.lock"):
        changed = not _is_kept(kept_folder, key)
        if changed:
            log = settings.logs / f"{SMOKE_FOLDER}-{packed.name}.log"
            figures = _run_checks(config, packed, log, workspace)
            kept_folder.mkdir(parents=True, exist_ok=True)
            config.write_report(kept_folder, figures, **key)
    return Change(_report_artifact(kept_folder, bento, workspace), changed, _note(kept_folder))


def _report_artifact(folder: Path, bento: Bento, workspace: Workspace) -> Report:
    """The outcome that is kept in ``folder``."""
    return Report(
        name=f"../{folder.relative_to(workspace.settings.home).as_posix()}",
        digest=digest_folder(folder),
        lineage=workspace.action_lineage(smoke, {"bento": bento}),
    )


def _report_place(
    config: SmokeConfig, bento: Bento, workspace: Workspace
) -> tuple[Path, dict[str, str]]:
    """(folder of the outcome, facts that it must have been made of)."""
    folder = (
        workspace.settings.bentos / SMOKE_FOLDER / workspace.artifact_folder(bento).resolve().name
    )
    key = {"bento": bento.digest, "config": digest_value(config.model_dump(mode="json"))}
    return folder, key


def _is_kept(folder: Path, key: dict[str, str]) -> bool:
    if not folder.is_dir():
        return False
    extra = read_report_content(folder)
    return all(extra.get(name) == value for name, value in key.items())


def _note(folder: Path) -> str:
    figures = {figure["name"]: figure["value"] for figure in read_report_content(folder)["figures"]}
    return f"first token after {figures['time_to_first_token']:.0f} ms"


def _run_checks(config: SmokeConfig, folder: Path, log: Path, workspace: Workspace) -> list[Figure]:
    """Start the server, run every check, stop it.

    Raises:
        GateFailed: as ``smoke``.
    """
    import openai

    endpoint = read_endpoint(folder / "src")
    key = secrets.token_urlsafe(24)
    environment = {"MODELMILL_API_KEY": key, "BENTOML_HOME": str(workspace.settings.bentos)}
    try:
        with run_server(folder, log, environment, config.ready_seconds) as server:
            client = openai.OpenAI(
                base_url=server.address,
                api_key=key,
                max_retries=0,
                timeout=config.answer_seconds,
            )
            _check_models(client, endpoint)
            answer = _check_answers(client, endpoint, config)
            _check_refusals(client, endpoint)
            figures = _time_streams(client, endpoint, config)
            started = exact_figure("startup", server.seconds, "s")
    except (openai.OpenAIError, _WrongAnswer) as error:
        problem = error_line(error)
        raise GateFailed(f"smoke: {problem}; the server's log ends: {log_tail(log)}") from error
    except (MillError, _EmptyAnswer) as error:
        raise GateFailed(f"smoke: {error}") from error
    return [*figures, started, exact_figure("answer_tokens", answer, "tokens")]


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise _WrongAnswer(problem)


def _check_models(client: OpenAI, endpoint: Endpoint) -> None:
    listed = [model.id for model in client.models.list()]
    _expect(listed == [endpoint.model], f"models are {listed}, not {endpoint.model}")


def _request(endpoint: Endpoint, config: SmokeConfig) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": config.question}],
        "temperature": 0,
        "max_tokens": config.max_tokens,
    }


def _check_answers(client: OpenAI, endpoint: Endpoint, config: SmokeConfig) -> int:
    """A whole answer, and the same one streamed; returns its tokens."""
    request = _request(endpoint, config)
    whole = client.chat.completions.create(**request)
    text = whole.choices[0].message.content
    if not text:
        raise _EmptyAnswer(
            f"the model gives an empty answer to {config.question!r} (smoke.question): train it "
            "longer (pretrain.steps or pretrain.minutes, sft.epochs), give more "
            "pages under scrape, or ask what its pages answer"
        )
    _expect(whole.choices[0].finish_reason in ("stop", "length"), "the answer has no end")
    used = whole.usage
    _expect(used is not None and used.total_tokens > used.prompt_tokens > 0, "usage is not counted")
    chunks = list(client.chat.completions.create(**request, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    _expect(streamed == text, f"streamed {streamed!r}, but the whole answer is {text!r}")
    return used.completion_tokens if used else 0


def _check_refusals(client: OpenAI, endpoint: Endpoint) -> None:
    """A wrong key, nonsense and too much are each refused as OpenAI's client expects."""
    import openai

    messages: list[Any] = [{"role": "user", "content": "x"}]
    stranger = client.with_options(api_key="wrong")
    too_much: list[Any] = [{"role": "user", "content": "x" * (endpoint.limits.body_bytes + 1)}]
    tries: list[tuple[str, OpenAI, dict[str, Any], int]] = [
        ("a wrong key", stranger, {"messages": messages}, 401),
        ("a negative temperature", client, {"messages": messages, "temperature": -1}, 400),
        ("too large a body", client, {"messages": too_much}, 413),
    ]
    for what, asking, asked, status in tries:
        try:
            asking.chat.completions.create(model=endpoint.model, **asked)
        except openai.APIStatusError as error:
            _expect(error.status_code == status, f"{what} gave {error.status_code}, not {status}")
        else:
            raise _WrongAnswer(f"{what} was let through")


def _time_streams(client: OpenAI, endpoint: Endpoint, config: SmokeConfig) -> list[Figure]:
    """Milliseconds to the first text, and tokens a second after it."""
    firsts, rates = [], []
    for _ in range(config.streams):
        started = time.perf_counter()
        first = 0.0
        tokens = 0
        stream = client.chat.completions.create(
            **_request(endpoint, config), stream=True, stream_options={"include_usage": True}
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content and not first:
                first = time.perf_counter()
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        firsts.append(1000 * (first - started))
        rates.append(tokens / (time.perf_counter() - started))
    return [
        mean_interval(firsts, name="time_to_first_token", unit="ms"),
        mean_interval(rates, name="tokens_per_second", unit="tokens/s"),
    ]
