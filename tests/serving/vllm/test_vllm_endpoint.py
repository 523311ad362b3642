"""The endpoint over a server that speaks vLLM's API: requests, streams, crashes, ends."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.serving.vllm.conftest import RunningEndpoint, StartEndpoint


def error_of(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """(status, code, param) of an answer in OpenAI's error shape."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


def test_requests_go_through_whole_and_the_answer_comes_back(endpoint: RunningEndpoint) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "guided_choice": ["yes"],
    }
    headers = {"Authorization": "Bearer mine", "Cookie": "a=b"}
    answer = httpx.post(f"{endpoint.address}/v1/chat/completions", json=body, headers=headers)
    seen = answer.json()
    assert (answer.status_code, seen["path"], seen["body"]) == (200, "/v1/chat/completions", body)
    assert "Cookie" not in seen["headers"]
    assert "mine" not in json.dumps(seen["headers"])
    assert "x-upstream" not in answer.headers
    card = httpx.get(f"{endpoint.address}/v1/models").json()["data"][0]
    assert (card["id"], card["context_length"]) == ("tiny", 64)
    assert httpx.get(f"{endpoint.address}/v1/models/tiny").json() == card
    page = httpx.get(f"{endpoint.address}/metrics").text
    assert 'endpoint="/v1/chat/completions",http_response_code="200",protocol="http"} 1.0' in page


def test_a_stream_comes_event_by_event(endpoint: RunningEndpoint) -> None:
    answer = endpoint.ask("stream", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert [json.loads(event[6:])["index"] for event in events[:3]] == [0, 1, 2]
    assert events[3:] == ["data: [DONE]", ""]


def test_a_client_that_leaves_ends_the_answer_upstream(endpoint: RunningEndpoint) -> None:
    body = {"model": "tiny", "prompt": "endless", "stream": True}
    with httpx.stream("POST", f"{endpoint.address}/v1/completions", json=body) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    while not (endpoint.folder / "aborted").exists():
        assert endpoint.process.poll() is None
        time.sleep(0.05)
    assert endpoint.ask().status_code == 200


def test_what_no_engine_would_take_is_refused_before_vllm_sees_it(
    endpoint: RunningEndpoint,
) -> None:
    url = f"{endpoint.address}/v1/completions"
    for content, expected in [
        (b"{", (400, "invalid_json", None)),
        (b'{"model": "tiny", "prompt": "\\ud800"}', (400, "invalid_unicode", "prompt")),
        (b'{"prompt": "a"}', (400, "missing_required_parameter", "model")),
        (b'{"model": 3}', (400, "invalid_type", "model")),
        (b'{"model": "other"}', (404, "model_not_found", "model")),
    ]:
        assert error_of(httpx.post(url, content=content)) == expected
    large = httpx.post(url, content=b" " * (2 << 20))
    assert error_of(large)[:2] == (413, "request_too_large")
    for method, path, expected in [
        ("POST", "/v1/load_lora_adapter", (404, "unknown_url", None)),
        ("GET", "/v1/completions", (405, "method_not_supported", None)),
        ("GET", "/v1/models/other", (404, "model_not_found", "model")),
        ("POST", "/v1/models", (405, "method_not_supported", None)),
    ]:
        assert error_of(httpx.request(method, endpoint.address + path)) == expected
    assert httpx.get(f"{endpoint.address}/").status_code == 404
    assert httpx.get(f"{endpoint.address}/v1/models", headers={"Host": "a.b"}).status_code == 403


def test_errors_of_vllm_get_this_endpoints_shape(endpoint: RunningEndpoint) -> None:
    refused = endpoint.ask("too long")
    assert error_of(refused) == (400, "context_length_exceeded", None)
    assert refused.json()["error"]["type"] == "invalid_request_error"
    failed = endpoint.ask("fail")
    assert error_of(failed) == (500, "server_error", None)
    assert "secret" not in failed.text


def test_the_child_gets_a_key_of_its_own_and_not_the_endpoints(
    start_endpoint: StartEndpoint,
) -> None:
    running = start_endpoint(key="callers-key")
    running.wait_listening()
    running.wait_ready()
    assert error_of(running.ask())[:2] == (401, "invalid_api_key")
    body = {"model": "tiny", "prompt": "hello"}
    headers = {"Authorization": "Bearer callers-key"}
    url = f"{running.address}/v1/completions"
    assert httpx.post(url, json=body, headers=headers).status_code == 200
    environment = json.loads((running.folder / "environment.json").read_text())
    command = json.loads((running.folder / "command.json").read_text())
    assert "callers-key" not in json.dumps(environment)
    assert len(environment["VLLM_API_KEY"]) > 30
    assert environment["VLLM_API_KEY"] not in json.dumps(command)
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_more_requests_than_may_wait_are_refused(start_endpoint: StartEndpoint) -> None:
    running = start_endpoint(slots=1, queue=0)
    running.wait_listening()
    running.wait_ready()
    body = {"model": "tiny", "prompt": "endless", "stream": True}
    with httpx.stream("POST", f"{running.address}/v1/completions", json=body) as answer:
        lines = answer.iter_lines()  # kept: its end would close the stream
        next(lines)
        second = running.ask()
        assert error_of(second)[:2] == (429, "rate_limit_exceeded")
        assert second.headers["retry-after"] == "1"
    while running.ask().status_code == 429:
        time.sleep(0.05)
    assert running.ask().status_code == 200


def test_a_server_that_dies_is_started_again(start_endpoint: StartEndpoint) -> None:
    running = start_endpoint(lives=2)
    running.wait_listening()
    running.wait_ready()
    assert running.ask().status_code == 200
    lost = running.ask()
    assert error_of(lost) == (503, "loading", None)
    assert lost.headers["retry-after"] == "1"
    while running.ask().status_code != 200:
        assert running.process.poll() is None
        time.sleep(0.05)


def test_a_stream_that_breaks_off_ends_with_an_error(endpoint: RunningEndpoint) -> None:
    endpoint.wait_ready()
    answer = endpoint.ask("break", stream=True)
    events = [json.loads(event[6:]) for event in answer.text.split("\n\n")[:-1]]
    assert [event.get("index") for event in events] == [0, None]
    assert events[1]["error"]["code"] == "server_error"
    while endpoint.ask().status_code != 200:
        assert endpoint.process.poll() is None
        time.sleep(0.05)


def test_a_first_start_that_fails_ends_with_one_line(start_endpoint: StartEndpoint) -> None:
    running = start_endpoint("fails")
    _, said = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    assert said == (
        "modelmill: vLLM could not start (1); it said: ValueError: Free memory on device "
        "(1/80 GiB) is too little.\n"
    )


@pytest.mark.parametrize("start", ["works", "never"])
def test_nothing_is_left_when_it_is_stopped(start_endpoint: StartEndpoint, start: str) -> None:
    running = start_endpoint(start)
    running.wait_listening()
    if start == "works":
        running.wait_ready()
    else:
        assert error_of(running.ask()) == (503, "loading", None)
    while not (children := psutil.Process(running.process.pid).children()):
        time.sleep(0.05)
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=60)
    assert running.process.returncode == 143
    assert said.splitlines()[-1] == "stopped"
    assert not any(child.is_running() for child in children)


@contextmanager
def open_stream(running: RunningEndpoint, prompt: str) -> Iterator[Iterator[str]]:
    """Lines of a stream that has begun."""
    body = {"model": "tiny", "prompt": prompt, "stream": True}
    with httpx.stream("POST", f"{running.address}/v1/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


def await_stopping(running: RunningEndpoint) -> None:
    """Wait until it says that it ends."""
    while (answer := httpx.get(f"{running.address}/readyz")).status_code == 200:
        time.sleep(0.02)
    assert error_of(answer) == (503, "server_stopping", None)


def test_sigterm_lets_answers_end_and_refuses_new_ones(start_endpoint: StartEndpoint) -> None:
    running = start_endpoint(drain="60")
    running.wait_listening()
    running.wait_ready()
    with open_stream(running, "slow") as lines:
        running.process.send_signal(signal.SIGTERM)
        await_stopping(running)
        refused = running.ask()
        assert error_of(refused) == (503, "server_stopping", None)
        assert refused.headers["retry-after"] == "1"
        assert httpx.get(f"{running.address}/livez").status_code == 200
        (running.folder / "finish").touch()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert running.process.wait(timeout=30) == 143


@pytest.mark.parametrize(("drain", "sign"), [("0.2", signal.SIGTERM), ("60", signal.SIGINT)])
def test_answers_that_are_left_end_by_an_error(
    start_endpoint: StartEndpoint, drain: str, sign: signal.Signals
) -> None:
    running = start_endpoint(drain=drain)
    running.wait_listening()
    running.wait_ready()
    children = psutil.Process(running.process.pid).children()
    with open_stream(running, "endless") as lines:
        running.process.send_signal(sign)
        last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
    assert running.process.wait(timeout=30) == 128 + sign
    assert not any(child.is_running() for child in children)


def test_a_killed_endpoint_takes_its_server_with_it(start_endpoint: StartEndpoint) -> None:
    endpoint = start_endpoint()
    endpoint.wait_listening()
    endpoint.wait_ready()
    children = psutil.Process(endpoint.process.pid).children()
    endpoint.process.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert children
    assert not alive
