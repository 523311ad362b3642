"""A real Bento, built once for the file, started and asked as it would be served."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml

from components.core.action import Change, Workspace
from components.core.endpoint_settings import ENDPOINT_LIMITS_VARIABLE
from components.core.environment import child_environment
from components.core.errors import ConfigError, DataError, GateFailed, MillError
from components.core.settings import Settings
from components.core.stats.figures import read_report
from components.core.store.artifact import Bento, Bundle, Lineage, ModelVersion
from components.core.store.workdir import Workdir
from components.publish.bento_folders import bentos_folder, damaged_files
from components.publish.promotion.endpoint_swap import ServedModel
from components.text.chat.tokenizer_files import tokenizer_digest
from serving import serve_model as running
from serving.api.limits import EndpointLimits
from serving.bento import build_bento as packaging
from serving.bento.bento_sources import BentoSources, collect_service_sources, pin_packages
from serving.bento.build_bento import PackageConfig, dry_run_package, package
from serving.engine.served_folder import open_endpoint
from serving.gateway.backend import start_backend
from serving.gateway.server_process import run_server
from serving.smoke_test import SmokeConfig, smoke

CONFIG = PackageConfig(limits=EndpointLimits(slots=4, threads=1))
VERSION = ModelVersion(
    name="models:/tiny/1", digest="1" * 64, lineage=Lineage(component="x", code="", config="")
)


def sealed(workspace: Workspace, files: Path) -> Bundle:
    work = Workdir.temporary(workspace.settings.store, "components.export.bundle.bundle")
    shutil.copytree(files, work.folder, dirs_exist_ok=True)
    return work.seal(Bundle)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("workspace")
    return Workspace(Settings(home=home, reference_data=home))


@pytest.fixture(scope="module")
def bundle(workspace: Workspace, bundle_files: Path) -> Bundle:
    return sealed(workspace, bundle_files)


@pytest.fixture(scope="module")
def built(workspace: Workspace, bundle: Bundle) -> Change[Bento]:
    leftover = workspace.settings.bentos / "partial" / "home" / "half.txt"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("of a killed try")
    return package(CONFIG, VERSION, bundle, workspace)


def test_a_bento_holds_what_it_needs_and_no_more(
    built: Change[Bento], workspace: Workspace, bundle: Bundle
) -> None:
    assert built.changed
    folder = workspace.artifact_folder(built.artifact).resolve()
    assert folder.is_relative_to(workspace.settings.bentos)
    source = folder / "src"
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
    assert {
        "serving/bento/service.py",
        "serving/engine/batching_engine.py",
        "components/export/onnx/ragged_runtime.py",
    } <= files
    assert {"bundle/onnx/model.onnx", "bundle/tokenizer.json", "endpoint.json"} <= files
    strangers = ("flows", "tests", "components/train", "components/publish", "models", ".")
    assert not [name for name in files if name.startswith(strangers)]
    endpoint = json.loads((source / "endpoint.json").read_bytes())
    assert (endpoint["model"], endpoint["bundle"]) == ("tiny", bundle.digest)
    manifest = yaml.safe_load((folder / "bento.yaml").read_text())
    assert f"{manifest['name']}:{manifest['version']}" == built.note
    assert not (workspace.settings.bentos / "partial").exists()


def test_the_pins_are_exact_and_leave_training_out(built: Change[Bento]) -> None:
    pins = dict(line.split("==") for line in pin_packages(collect_service_sources().packages))
    served_by = {"bentoml", "uvicorn", "httptools", "uvloop", "starlette"}
    assert {*served_by, "numpy", "onnxruntime", "tokenizers"} <= pins.keys()
    assert not {"torch", "mlflow", "prefect", "datasketch"} & pins.keys()
    lock = packaging.ROOT / "requirements.lock"
    assert all(f"{name}=={pins[name]}" in lock.read_text() for name in ("onnxruntime", "uvloop"))


def test_the_same_again_is_found_without_building(
    built: Change[Bento], workspace: Workspace, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("built although there was nothing to do")

    monkeypatch.setattr(packaging, "_build", refuse)
    again = package(CONFIG, VERSION, bundle, workspace)
    assert (again.changed, again.artifact) == (False, built.artifact)


def test_what_changes_the_server_makes_another_bento_and_a_comment_does_not(
    built: Change[Bento], workspace: Workspace, bundle: Bundle, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    others = PackageConfig(limits=EndpointLimits(slots=5, threads=1))
    assert packaging._contents(others, VERSION, bundle, workspace).digest != built.artifact.digest

    sources = copied_sources(tmp_path, monkeypatch)
    before = sources.digest()
    packed = packaging._contents(CONFIG, VERSION, bundle, workspace).endpoint
    engine = tmp_path / "serving" / "engine" / "batching_engine.py"
    engine.write_text(engine.read_text() + "\n# a remark\n")
    assert sources.digest() == before
    remarked = packaging._contents(CONFIG, VERSION, bundle, workspace).endpoint
    engine.write_text(engine.read_text() + "\nMORE = 1\n")
    assert sources.digest() != before
    changed = packaging._contents(CONFIG, VERSION, bundle, workspace).endpoint
    assert remarked.fingerprint == packed.fingerprint != changed.fingerprint


def test_a_form_that_the_bundle_lacks_is_refused(workspace: Workspace, bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"package.form onnx-int8: the bundle holds onnx"):
        package(PackageConfig(form="onnx-int8"), VERSION, bundle, workspace)


def test_a_bundle_of_another_tokenizer_is_refused(
    workspace: Workspace, bundle_files: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    shutil.copytree(bundle_files, files)
    record = json.loads((files / "bundle.json").read_text())
    digest = tokenizer_digest(files)
    (files / "bundle.json").write_text(json.dumps({**record, "tokenizer": digest}))
    contents = packaging._contents(CONFIG, VERSION, sealed(workspace, files), workspace)
    assert contents.endpoint.tokenizer == digest
    (files / "bundle.json").write_text(json.dumps({**record, "tokenizer": "f00d" * 16}))
    with pytest.raises(DataError, match=f"of tokenizer {digest[:12]}, its model of f00df00df00d"):
        package(CONFIG, VERSION, sealed(workspace, files), workspace)


def test_a_bento_needs_nothing_of_the_checkout(built: Change[Bento], workspace: Workspace) -> None:
    source = workspace.artifact_folder(built.artifact).resolve() / "src"
    code = f"""
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
sys.path[:] = [{str(source)!r}, *(p for p in sys.path if p not in ("", {str(packaging.ROOT)!r}))]
import serving.bento.service
from serving.engine.served_folder import open_endpoint
from serving.api.openai_endpoint import create_app
create_app(open_endpoint(Path({str(source)!r})), None)
own = [m for n, m in sys.modules.items() if n.split(".")[0] in ("serving", "components", "models")]
assert len(own) > 15
assert all(Path(m.__file__).is_relative_to({str(source)!r}) for m in own), own
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def copied_sources(target: Path, monkeypatch: pytest.MonkeyPatch) -> BentoSources:
    """The service's modules in a checkout of their own, to be edited."""
    sources = collect_service_sources()
    for file in sources.files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packaging.ROOT / file, target / file)
    monkeypatch.setattr("serving.bento.bento_sources.ROOT", target)
    monkeypatch.setattr(packaging, "ROOT", target)
    monkeypatch.setattr(packaging, "collect_service_sources", lambda: sources)
    return sources


def test_a_build_that_fails_is_one_line_and_leaves_no_bento(
    workspace: Workspace, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied_sources(tmp_path, monkeypatch)
    (tmp_path / "serving" / "bento" / "service.py").write_text("raise RuntimeError('no such luck')")
    before = set(bentos_folder(workspace.settings).glob("*/"))
    with pytest.raises(MillError, match=r"the Bento could not be built: .*no such luck") as failed:
        package(CONFIG, VERSION, bundle, workspace)
    assert "\n" not in str(failed.value)
    assert set(bentos_folder(workspace.settings).glob("*/")) == before


def test_smoke_asks_the_packed_server_once_and_keeps_the_outcome(
    built: Change[Bento], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SmokeConfig(max_tokens=12, streams=2)
    first = smoke(config, built.artifact, workspace)
    assert first.changed
    figures = read_report(workspace.artifact_folder(first.artifact))
    assert 0 < figures["time_to_first_token"].value < 5000
    assert figures["answer_tokens"].value > 0

    def refuse(*_: object) -> None:
        raise AssertionError("asked again although nothing changed")

    monkeypatch.setattr("serving.smoke_test._run_checks", refuse)
    again = smoke(config, built.artifact, workspace)
    assert (again.changed, again.artifact) == (False, first.artifact)
    with pytest.raises(AssertionError, match="asked again"):
        smoke(SmokeConfig(question="Another?"), built.artifact, workspace)


def test_two_servers_of_one_workspace_count_apart(
    built: Change[Bento], workspace: Workspace, tmp_path: Path
) -> None:
    folder = workspace.artifact_folder(built.artifact)
    variables = {"BENTOML_HOME": str(workspace.settings.bentos), "MODELMILL_API_KEY": "s3cret"}
    key = {"Authorization": "Bearer s3cret"}
    with (
        run_server(folder, tmp_path / "a.log", variables, 60) as first,
        httpx.Client(headers=key, base_url=first.address.removesuffix("/v1")) as asks_first,
    ):
        for number in range(3):
            assert asks_first.get(f"/v1/models/{number}").status_code == 404
        with (
            run_server(folder, tmp_path / "b.log", variables, 60) as second,
            httpx.Client(headers=key, base_url=second.address.removesuffix("/v1")) as asks_second,
        ):
            assert asks_second.get("/v1/models/tiny").status_code == 200
            assert asks_first.get("/v1/nothing").status_code == 404
            for path in ("docs.json", "schema.json", "metrics"):
                assert httpx.get(f"{asks_second.base_url}/{path}").status_code == 401
                assert asks_second.get(f"/{path}").status_code == 200
            pages = [client.get("/metrics").text for client in (asks_first, asks_second)]
    total = 'bentoml_service_request_total{endpoint="'
    lines = [[line for line in page.splitlines() if line.startswith(total)] for page in pages]
    model = f'{total}/v1/models/{{model}}",http_response_code='
    end = ',protocol="http"}'
    other = f'{total}other",http_response_code="404"{end} 1.0'
    assert {f'{model}"404"{end} 3.0', other} <= {*lines[0]}
    assert [line for line in lines[1] if model in line] == [f'{model}"200"{end} 1.0']


def test_a_model_that_says_nothing_is_told_from_a_server_that_is_broken(
    built: Change[Bento], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shape of OpenAI's answer; the server before it is the real one.
    silent = SimpleNamespace(message=SimpleNamespace(content=""), finish_reason="stop")
    answer = SimpleNamespace(choices=[silent])
    monkeypatch.setattr(
        "openai.resources.chat.completions.Completions.create", lambda *_, **__: answer
    )
    with pytest.raises(GateFailed, match=r"empty answer to 'Why\?' .*sft\.epochs") as failed:
        smoke(SmokeConfig(question="Why?"), built.artifact, workspace)
    assert "log" not in str(failed.value)


def test_a_server_that_cannot_start_fails_the_gate_with_its_last_words(
    built: Change[Bento], workspace: Workspace
) -> None:
    whole = workspace.artifact_folder(built.artifact).resolve()
    broken = whole.with_name("broken000000")
    shutil.copytree(whole, broken)
    (broken / "src" / "bundle" / "onnx" / "model.onnx").write_bytes(b"no graph")
    name = f"../{broken.relative_to(workspace.settings.home).as_posix()}"
    bento = built.artifact.model_copy(update={"name": name, "digest": "0" * 64})
    with pytest.raises(GateFailed, match="onnxruntime cannot load it") as failed:
        smoke(SmokeConfig(), bento, workspace)
    assert "\n" not in str(failed.value)
    shutil.rmtree(broken)


def registry(settings: Settings, bundle: Bundle) -> None:
    """The tables that a registry is read from, with one champion."""
    settings.mlflow.mkdir(exist_ok=True)
    (settings.mlflow / "mlflow.db").unlink(missing_ok=True)
    with sqlite3.connect(settings.mlflow / "mlflow.db") as database:
        database.executescript(
            f"""
            CREATE TABLE model_versions (name, version, source, current_stage, creation_time);
            CREATE TABLE model_version_tags (name, version, key, value);
            CREATE TABLE registered_model_aliases (name, version, alias);
            INSERT INTO model_versions VALUES ('tiny', 1, 'models:/m-1', 'None', 1);
            INSERT INTO model_versions VALUES ('tiny', 2, 'models:/m-2', 'None', 2);
            INSERT INTO model_version_tags VALUES ('tiny', 1, 'modelmill.bundle', '{bundle.digest}');
            INSERT INTO registered_model_aliases VALUES ('tiny', 1, 'champion');
            """
        )


@pytest.mark.parametrize("asked", [None, "tiny", "tiny@champion", "tiny/1"])
def test_serve_finds_the_bento_of_what_is_asked_for(
    built: Change[Bento], workspace: Workspace, bundle: Bundle, asked: str | None,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    registry(workspace.settings, bundle)
    calls: list[Any] = []
    monkeypatch.setattr(
        running, "exec_foreground", lambda *given, as_json: calls.append((*given, as_json))
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running.serve_forever(workspace.settings, asked, port=port, as_json=True)
    assert calls == [(workspace.artifact_folder(built.artifact).resolve(), "127.0.0.1", port, True)]
    told = json.loads(capsys.readouterr().out)
    assert told["address"] == f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def graph(built: Change[Bento], workspace: Workspace, bundle: Bundle) -> Iterator[Path]:
    """The packed graph, to be meddled with."""
    registry(workspace.settings, bundle)
    path = (
        workspace.artifact_folder(built.artifact).resolve()
        / "src"
        / "bundle"
        / "onnx"
        / "model.onnx"
    )
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


@pytest.mark.parametrize("cut", [None, 0, 1000])
def test_a_damaged_bento_is_refused_before_a_server_starts_and_packed_anew(
    workspace: Workspace, bundle: Bundle, graph: Path, cut: int | None
) -> None:
    whole = graph.read_bytes()
    graph.unlink()
    if cut is not None:
        graph.write_bytes(whole[:cut])
    says = "is gone" if cut is None else f"has {cut:,} bytes in place of {len(whole):,}"
    with pytest.raises(DataError, match=f"is damaged: bundle/onnx/model.onnx {says}; run ") as told:
        running.serve_forever(workspace.settings)
    assert "\n" not in str(told.value)
    with pytest.raises(DataError, match="is damaged"):
        start_backend(workspace.settings, ServedModel("tiny", "1", graph.parents[3].name))
    assert dry_run_package(CONFIG, VERSION, bundle, workspace).changed
    assert package(CONFIG, VERSION, bundle, workspace).changed
    assert graph.read_bytes() == whole
    assert not package(CONFIG, VERSION, bundle, workspace).changed
    assert not (workspace.settings.bentos / "partial").exists()


def test_a_bento_without_a_list_of_its_files_is_looked_at_too(
    workspace: Workspace, graph: Path
) -> None:
    listed = graph.parents[2] / "files.json"
    kept = listed.read_bytes()
    listed.unlink()
    assert damaged_files(graph.parents[3]) == []
    graph.unlink()
    assert damaged_files(graph.parents[3]) == ["bundle/onnx/model.onnx is gone"]
    listed.write_bytes(kept)


def test_a_server_that_cannot_start_ends_with_one_line(workspace: Workspace, graph: Path) -> None:
    graph.write_bytes(bytes(graph.stat().st_size))
    folder = graph.parents[3]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "serving.gateway.foreground", str(folder), "127.0.0.1", str(port)],
        capture_output=True, text=True, timeout=90,
        env=child_environment({"BENTOML_HOME": str(workspace.settings.bentos)}),
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "[INFO]" not in line]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert "could not start; it said: model.onnx: onnxruntime cannot load it" in lines[0]
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port)):
        pass


def test_what_cannot_be_served_says_why(
    built: Change[Bento], workspace: Workspace, bundle: Bundle
) -> None:
    settings = workspace.settings
    registry(settings, bundle)
    for asked, says in [
        ("nobody", "nobody: no such model; there is tiny@champion"),
        ("tiny@challenger", "tiny has no such alias; there is tiny@champion"),
        ("tiny/9", "tiny has no version 9"),
        ("tiny/2", "tiny version 2 is not packed"),
    ]:
        with pytest.raises(ConfigError, match=says):
            running.serve_forever(settings, asked)
    with pytest.raises(ConfigError, match="set MODELMILL_API_KEY"):
        running.serve_forever(settings, host="0.0.0.0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: address already in use"):
            running.serve_forever(settings, port=port)


def test_limits_are_checked_before_a_server_starts_and_handed_to_it(
    built: Change[Bento], workspace: Workspace, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = workspace.settings
    registry(settings, bundle)
    monkeypatch.setenv(ENDPOINT_LIMITS_VARIABLE, "")
    monkeypatch.setattr(running, "exec_foreground", lambda *_, **__: None)
    monkeypatch.setattr(running, "_check_port", lambda *_: None)
    for limits, says in [
        ({"slots": 0}, "slots 0: input should be greater than or equal to 1"),
        ({"context": 97}, "context 97: the model's cache holds 96 tokens"),
        ({"slot": 4}, "slot 4: extra inputs are not permitted"),
    ]:
        with pytest.raises(ConfigError, match=says) as told:
            running.serve_forever(settings, limits=limits)
        assert "\n" not in str(told.value)
        assert os.environ[ENDPOINT_LIMITS_VARIABLE] == ""
    running.serve_forever(settings, limits={"slots": 3, "context": 90, "send_seconds": 5.0})
    folder = workspace.artifact_folder(built.artifact).resolve()
    served = open_endpoint(folder / "src")
    assert (served.limits.slots, served.limits.send_seconds) == (3, 5.0)
    assert (served.engine.context, served.limits.queue) == (90, CONFIG.limits.queue)
    monkeypatch.setenv(ENDPOINT_LIMITS_VARIABLE, "[3]")
    with pytest.raises(ConfigError, match="no JSON object"):
        open_endpoint(folder / "src")
