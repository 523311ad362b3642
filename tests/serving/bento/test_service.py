"""Everything beside ``/v1``: no page of BentoML's, figures behind the key, bounded labels."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.api.answers.loaded_model import LoadedModel
from serving.api.openai_endpoint import create_app
from serving.bento.endpoint_app import EndpointApp, LoadedEndpoint
from serving.bento.service import OpenAIService

KEY = {"Authorization": "Bearer s3cret"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The guard with a key in front of an application that answers everything."""
    monkeypatch.setenv("MODELMILL_API_KEY", "s3cret")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    return TestClient(EndpointApp(behind(), opened()))


def opened() -> LoadedEndpoint:
    """With routes that answer everything, but no model."""
    endpoint = LoadedEndpoint()
    endpoint.app = behind()
    return endpoint


def behind() -> Starlette:
    async def say(request: Any) -> PlainTextResponse:
        return PlainTextResponse("behind", 200 if "nothing" not in request.url.path else 404)

    return Starlette(routes=[Route("/{path:path}", say, methods=["GET", "POST"])])


@pytest.mark.parametrize("path", ["/", "/main.js", "/static_content/x", "/metrics/", "//metrics"])
def test_there_is_no_page(client: TestClient, path: str) -> None:
    answer = client.get(f"http://testserver{path}", headers=KEY)
    assert answer.status_code == 404
    assert "/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_probes_are_open(client: TestClient, path: str) -> None:
    assert (client.get(path).status_code, client.get(path).text) == (200, "\n")


@pytest.mark.parametrize("path", ["/v1/models", "/docs.json", "/schema.json"])
def test_the_endpoint_and_the_documents_of_bentoml_go_through(
    client: TestClient, path: str
) -> None:
    assert client.get(path, headers=KEY).text == "behind"


def test_while_the_model_is_loaded_only_liveness_is_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", "s3cret")
    client = TestClient(EndpointApp(behind(), LoadedEndpoint()))
    assert client.get("/livez").status_code == 200
    for path in ("/readyz", "/health", "/v1/models"):
        refused = client.get(path, headers=KEY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client.get("/health").json() == {"status": "loading"}


def test_health_tells_the_model_to_who_has_the_key(
    make_served: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", "s3cret")
    endpoint = LoadedEndpoint()
    endpoint.open(make_served(), behind())
    client = TestClient(EndpointApp(behind(), endpoint))
    assert client.get("/health").json() == {"status": "ok"}
    known = client.get("/health", headers=KEY).json()
    assert (known["model"], known["context_length"]) == ("tiny", 64)
    assert known["engine"] == {"slots": 4, "rows_in_use": 0, "waiting": 0, "queue": 64}


@pytest.mark.parametrize("path", ["/metrics", "/docs.json", "/schema.json"])
def test_figures_need_the_key(client: TestClient, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = client.get(path, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert client.get(path, headers=KEY).status_code == 200


def test_without_a_key_figures_are_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_API_KEY", raising=False)
    guard = EndpointApp(behind(), opened())
    own = TestClient(guard, base_url="http://localhost", client=("127.0.0.1", 1))
    assert own.get("/metrics").status_code == 200
    other = TestClient(guard, base_url="http://localhost", client=("192.168.0.7", 1))
    assert other.get("/metrics").status_code == 403
    assert own.get("/metrics", headers={"Host": "evil.example"}).status_code == 403


def test_unknown_addresses_are_one_label(client: TestClient) -> None:
    for number in range(300):
        client.get(f"/v1/nothing-{number}")
        client.get(f"/made-up-{number}")
        client.get(f"/v1/models/made-up-{number}")
    client.post("/v1/chat/completions")
    page = client.get("/metrics", headers=KEY).text
    labels = {
        line.split('endpoint="')[1].split('"')[0] for line in page.splitlines() if "{" in line
    }
    assert labels == {"other", "/v1/models/{model}", "/v1/chat/completions"}
    total = "bentoml_service_request_total"
    assert f'{total}{{endpoint="other",http_response_code="404",protocol="http"}} 600.0' in page
    known = 'endpoint="/v1/models/{model}",http_response_code="200",protocol="http"'
    assert f"{total}{{{known}}} 300.0" in page
    assert 'in_progress{endpoint="other",protocol="http"} 0.0' in page


def test_the_page_of_metrics_has_the_engine_s_figures(
    make_served: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_API_KEY", "s3cret")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    endpoint, served = LoadedEndpoint(), make_served()
    endpoint.open(served, create_app(served, "s3cret"))
    with TestClient(
        EndpointApp(behind(), endpoint), base_url="http://localhost", client=("127.0.0.1", 1)
    ) as client:
        for stream in (False, True):
            body = {"model": "tiny", "prompt": "abc", "max_tokens": 5, "stream": stream}
            body |= {"ignore_eos": True}
            assert client.post("/v1/completions", json=body, headers=KEY).status_code == 200
        page = client.get("/metrics", headers=KEY).text
        assert client.get("/metrics").status_code == 401
    figures = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("modelmill_engine")
    }
    assert figures['modelmill_engine_requests_total{model="tiny"}'] == 2
    assert figures['modelmill_engine_tokens_total{kind="completion",model="tiny"}'] == 10
    assert figures['modelmill_engine_first_token_seconds_count{model="tiny"}'] == 2
    assert figures['modelmill_engine_token_seconds_count{model="tiny"}'] == 2
    assert figures['modelmill_engine_rows_in_use{model="tiny"}'] == 0
    assert figures['modelmill_engine_slots{model="tiny"}'] == 4
    assert figures['modelmill_engine_steps_total{model="tiny"}'] == 8  # a prompt gives a token too
    assert figures['modelmill_engine_step_rows_bucket{le="1",model="tiny"}'] == 8
    assert figures['modelmill_engine_queue_seconds_count{model="tiny"}'] == 2
    assert page.count("# TYPE bentoml_service_request_total") <= 1


def test_bentoml_serves_it() -> None:
    assert isinstance(OpenAIService.to_asgi(), EndpointApp)
    assert OpenAIService.config["metrics"] == {"enabled": False}


def run_lifespan(app: Starlette) -> list[str]:
    """What the server hears of an application that is started and ended."""
    heard: list[str] = []

    async def check() -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            await asyncio.sleep(0.01)
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            heard.append(message["type"])

        await EndpointApp(app, opened())({"type": "lifespan", "state": {}}, receive, send)

    asyncio.run(check())
    return heard


def test_the_server_answers_while_bentoml_starts() -> None:
    done: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        done.append("started")
        yield
        done.append("ended")

    complete = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert run_lifespan(Starlette(lifespan=lifespan)) == complete
    assert done == ["started", "ended"]


def test_a_start_that_fails_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no such luck")
        yield

    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        run_lifespan(Starlette(lifespan=lifespan))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == [signal.SIGTERM]
    assert "no such luck" in caplog.text
    assert "Application startup failed" in caplog.text


@pytest.mark.parametrize(
    "path", ["/livez", "/healthz", "/readyz", "/health", "/metrics", "/docs.json"]
)
def test_probes_and_figures_are_only_read(client: TestClient, path: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "POST"):
        refused = client.request(method, path, headers=KEY)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        assert refused.json()["error"]["code"] == "method_not_supported"
    assert client.head(path, headers=KEY).status_code == client.get(path, headers=KEY).status_code
