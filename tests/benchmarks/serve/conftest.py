"""A very small model, and its server, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.serve.targets.load_targets import HttpTarget
from benchmarks.serve.targets.peer_servers import open_own_server
from benchmarks.serve.targets.served_models import BenchModel, make_bench_model
from models.shape_presets import NANO


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    return make_bench_model(tmp_path_factory.mktemp("model"), "nano", NANO)


@pytest.fixture(scope="session")
def own_server(model: BenchModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpTarget]:
    with open_own_server(model, tmp_path_factory.mktemp("home")) as target:
        yield target
