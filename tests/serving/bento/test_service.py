"""Everything beside ``/v1``: no page of BentoML's, figures behind the key, bounded labels."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.bento.service import OpenAIService
from serving.bento.service_guard import ServiceGuard

KEY = {"Authorization": "Bearer s3cret"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The guard with a key in front of an application that answers everything."""
    monkeypatch.setenv("MODELMILL_API_KEY", "s3cret")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    return TestClient(ServiceGuard(behind()))


def behind() -> Starlette:
    async def say(request: Any) -> PlainTextResponse:
        return PlainTextResponse("behind", 200 if "nothing" not in request.url.path else 404)

    return Starlette(routes=[Route("/{path:path}", say, methods=["GET", "POST"])])


@pytest.mark.parametrize("path", ["/", "/main.js", "/static_content/x", "/metrics/", "//metrics"])
def test_there_is_no_page(client: TestClient, path: str) -> None:
    answer = client.get(f"http://testserver{path}", headers=KEY)
    assert answer.status_code == 404
    assert "/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/v1/models"])
def test_probes_and_the_endpoint_go_through(client: TestClient, path: str) -> None:
    assert client.get(path).text == "behind"


@pytest.mark.parametrize("path", ["/metrics", "/docs.json", "/schema.json"])
def test_figures_need_the_key(client: TestClient, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = client.get(path, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert client.get(path, headers=KEY).status_code == 200


def test_without_a_key_figures_are_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_API_KEY", raising=False)
    guard = ServiceGuard(behind())
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
    assert f'{total}{{endpoint="other",http_response_code="404"}} 600.0' in page
    assert f'{total}{{endpoint="/v1/models/{{model}}",http_response_code="200"}} 300.0' in page
    assert 'in_progress{endpoint="other"} 0.0' in page


def test_the_service_has_it() -> None:
    assert any(ServiceGuard in entry for entry in map(tuple, OpenAIService.middlewares))
    assert OpenAIService.config["metrics"] == {"enabled": False}
