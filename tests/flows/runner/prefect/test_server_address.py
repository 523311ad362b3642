"""A Prefect server named without the path of its API: the likely address is named, and tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.runner.prefect.server_address import check_prefect_api, use_running_server
from tests.flows.conftest import CommandLine, Server, free_port


@pytest.mark.parametrize("path", ["", "/", "/dashboard", "/api/v2", "/runs?state=failed"])
def test_an_api_beside_the_address_is_named(server: Server, path: str, tmp_path: Path) -> None:
    given = f"{server.api.removesuffix('/api')}{path}"
    settings = Settings(home=tmp_path, reference_data=tmp_path, prefect_api_url=given)
    with pytest.raises(ConfigError) as told:
        use_running_server(settings)
    assert str(told.value) == (
        f"PREFECT_API_URL={given}: no API of Prefect answers there, and one does at {server.api}: "
        f"export PREFECT_API_URL={server.api}"
    )


@pytest.mark.parametrize("path", ["", "/"])
def test_the_right_address_is_taken(server: Server, path: str) -> None:
    check_prefect_api(f"{server.api}{path}")


def test_where_nothing_answers_it_is_left_to_prefect() -> None:
    check_prefect_api(f"http://127.0.0.1:{free_port()}")  # raises nothing: Prefect says it better


def test_a_run_is_refused_in_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.api.removesuffix("/api"))
    done = CommandLine(tmp_path / "home")("run", "nano", "--until", "scrape", "--json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"one does at {server.api}" in json.loads(done.stdout)["error"]
