"""Starts a Bento as it would be served, asks it over HTTP with the ``openai`` client, stops it."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from components.core.action import Change, Workspace
from components.core.errors import GateFailed, MillError
from components.core.io.locks import hold_lock
from components.core.stats.figures import Figure, exact, mean_interval, read_extra
from components.core.stats.report_config import ReportConfig
from components.core.store.artifact import Bento, Report, digest_folder, digest_value
from serving.engine.served_folder import Endpoint, read_endpoint
from serving.gateway.server_process import running, tail

if TYPE_CHECKING:
    from openai import OpenAI

REPORT_FOLDER = "smoke"


class SmokeConfig(ReportConfig):
    """What is asked, and how patiently."""

    figures: ClassVar = ("time_to_first_token", "tokens_per_second", "startup", "answer_tokens")

    question: str = Field(
        default="What does json.dumps do?", min_length=1, description="asked in every request"
    )
    max_tokens: int = Field(default=48, ge=1, le=4096, description="most tokens of an answer")
    streams: int = Field(default=5, ge=1, le=1000, description="timed streams")
    ready_seconds: float = Field(default=60.0, gt=0, description="until the server must be ready")
    answer_seconds: float = Field(
        default=30.0, gt=0, description="until a request must be answered"
    )


class _Silent(Exception):
    """The server works and the model ends at once: its log tells nothing of why."""


class _Unexpected(Exception):
    """An answer that is not as it should be."""


def smoke(config: SmokeConfig, bento: Bento, workspace: Workspace) -> Change[Report]:
    """Ask a Bento everything once; the outcome is kept, so an unchanged Bento is not asked again.

    Raises:
        GateFailed: an answer was wrong or none came; ends with what the server said last.
    """
    settings = workspace.settings
    folder = workspace.path(bento).resolve()
    kept, key = _report(config, bento, workspace)
    with hold_lock(settings.bentos / "smoke.lock"):
        changed = not _is_kept(kept, key)
        if changed:
            log = settings.logs / f"{REPORT_FOLDER}-{folder.name}.log"
            figures = _ask_all(config, folder, log, workspace)
            kept.mkdir(parents=True, exist_ok=True)
            config.write_report(kept, figures, **key)
    report = Report(
        name=f"../{kept.relative_to(settings.home).as_posix()}",
        digest=digest_folder(kept),
        lineage=workspace.lineage("serving.smoke_test.smoke", {"bento": bento}),
    )
    return Change(report, changed, _note(kept))


def was_asked(config: SmokeConfig, bento: Bento, workspace: Workspace) -> bool:
    """Whether ``smoke`` has this Bento's outcome already."""
    return _is_kept(*_report(config, bento, workspace))


def _report(config: SmokeConfig, bento: Bento, workspace: Workspace) -> tuple[Path, dict[str, str]]:
    """Where the outcome is kept, and what it must have been made of."""
    folder = workspace.settings.bentos / REPORT_FOLDER / workspace.path(bento).resolve().name
    key = {"bento": bento.digest, "config": digest_value(config.model_dump(mode="json"))}
    return folder, key


def _is_kept(kept: Path, key: dict[str, str]) -> bool:
    if not kept.is_dir():
        return False
    extra = read_extra(kept)
    return all(extra.get(name) == value for name, value in key.items())


def _note(kept: Path) -> str:
    figures = {figure["name"]: figure["value"] for figure in read_extra(kept)["figures"]}
    return f"first token after {figures['time_to_first_token']:.0f} ms"


def _ask_all(config: SmokeConfig, folder: Path, log: Path, workspace: Workspace) -> list[Figure]:
    """Start, ask, stop.

    Raises:
        GateFailed: as ``smoke``.
    """
    import openai

    endpoint = read_endpoint(folder / "src")
    key = secrets.token_urlsafe(24)
    environment = {"MODELMILL_API_KEY": key, "BENTOML_HOME": str(workspace.settings.bentos)}
    try:
        with running(folder, log, environment, config.ready_seconds) as server:
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
            started = exact("startup", server.seconds, "s")
    except (openai.OpenAIError, _Unexpected) as error:
        said = " ".join(str(error).split())
        raise GateFailed(f"smoke: {said}; the server's log ends: {tail(log)}") from error
    except (MillError, _Silent) as error:
        raise GateFailed(f"smoke: {error}") from error
    return [*figures, started, exact("answer_tokens", answer, "tokens")]


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise _Unexpected(problem)


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
    asked = _request(endpoint, config)
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    if not text:
        raise _Silent(
            f"the model gives an empty answer to {config.question!r} (smoke.question): train it "
            "longer (pretrain.steps or pretrain.minutes, sft.epochs), give more "
            "pages under scrape, or ask what its pages answer"
        )
    _expect(whole.choices[0].finish_reason in ("stop", "length"), "the answer has no end")
    used = whole.usage
    _expect(used is not None and used.total_tokens > used.prompt_tokens > 0, "usage is not counted")
    chunks = list(client.chat.completions.create(**asked, stream=True))
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
            raise _Unexpected(f"{what} was let through")


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
