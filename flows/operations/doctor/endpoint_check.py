"""Check of the endpoint of a running ``modelmill up`` by a request for one token."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from components.core.settings import Settings
from components.publish.promotion.unpromoted_version import describe_newest
from flows.operations.doctor.finding import (
    Finding,
    report_broken,
    report_info,
    report_ok,
    report_warning,
)
from flows.operations.up.platform_state import ENDPOINT, find_service, read_running_state
from flows.operations.up.services import read_served_model

ANSWER_TIMEOUT_SECONDS = 10.0
"""Far more than one token takes, yet an endpoint that hangs does not hang ``doctor``."""
_NO_CHAMPION = "no_champion"


def check_endpoint(settings: Settings) -> Iterator[Finding]:
    """Request one token as an application would: a living process is not proof enough."""
    state = read_running_state(settings)
    endpoint = find_service(state.services, ENDPOINT) if state else None
    if endpoint is None:
        yield report_info("endpoint", "`modelmill up` is not running")
        return
    fix = "modelmill down, then modelmill up --detach with the same options"
    began = time.monotonic()
    try:
        answer = _request_token(settings, endpoint.address)
    except httpx.HTTPError as error:
        problem = str(error) or type(error).__name__
        yield report_broken("endpoint", f"{endpoint.address} does not answer: {problem}", fix)
        return
    seconds = time.monotonic() - began
    if answer.is_success:
        yield report_ok(
            "endpoint", f"{read_served_model(settings)} answered after {1000 * seconds:.0f} ms"
        )
        return
    code, message = _read_error(answer)
    if code == _NO_CHAMPION:
        yield report_info("endpoint", f"waits for a champion: {describe_newest(settings)}")
    elif answer.status_code == httpx.codes.UNAUTHORIZED:
        what = "it requires another MODELMILL_API_KEY than this shell has, so it was not tested"
        yield report_warning("endpoint", what, "export MODELMILL_API_KEY=…")
    elif answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        yield report_warning(
            "endpoint", f"it is busy and refused the request: {message}", "modelmill doctor"
        )
    else:
        yield report_broken("endpoint", f"it refuses ({answer.status_code}): {message}", fix)


def _request_token(settings: Settings, address: str) -> httpx.Response:
    """Request one token of an answer from the served model."""
    headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    with httpx.Client(trust_env=False, timeout=ANSWER_TIMEOUT_SECONDS, headers=headers) as client:
        models = client.get(f"{address}/models")
        if not models.is_success:
            return models
        request = {
            "model": models.json()["data"][0]["id"],
            "messages": [{"role": "user", "content": "Are you there?"}],
            "max_tokens": 1,
        }
        return client.post(f"{address}/chat/completions", json=request)


def _read_error(answer: httpx.Response) -> tuple[str, str]:
    """(code, message) of an error response in OpenAI's format."""
    try:
        error = answer.json()["error"]
        return str(error.get("code")), str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", answer.text[:200] or answer.reason_phrase
