"""Adapters by name beside their base: in one process, one batch, each with its own answers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from components.core.endpoint_settings import ADAPTERS_VARIABLE
from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.publish.registry.model_registry import BASE_TAG, RegisteredVersion
from components.text.decoder_files import load_model
from models.decoder import Decoder
from models.generate import generate_answers
from serving import serve_model
from serving.adapters.adapter_build import build_adapted_graph, parse_adapters, read_adapters
from serving.engine.served_folder import open_endpoint
from tests.export.onnx.adapter_folders import edit_config, write_adapter
from tests.serving.conftest import Listen

ENTRY = RegisteredVersion("tiny", 1, "models:/m-1", {}, ("champion",))
NAMES = ("red", "green", "blue")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A workspace with the version's files."""
    settings = Settings(tmp_path / "home", tmp_path)
    files = ENTRY.files_folder(settings)
    (files / "hf").mkdir(parents=True)
    (files / "hf" / "model.safetensors").write_bytes(b"weights")
    (files / "bundle.json").write_text('{"checkpoint": "base"}')
    return settings


@pytest.fixture
def bento(served: Path, tmp_path: Path) -> Path:
    """Folder of a Bento."""
    served.rename(tmp_path / "src")
    return tmp_path


@pytest.fixture
def merged(tmp_path: Path, decoder_folder: Path) -> dict[str, Decoder]:
    """The models of three adapters, whose folders are called as they are, and the base's."""
    base = load_model(decoder_folder)
    models = {
        name: write_adapter(tmp_path / name, base, rank=2 * seed, seed=seed)
        for seed, name in enumerate(NAMES, start=1)
    }
    return {"tiny": base, **models}


@pytest.fixture
def adapted(
    merged: dict[str, Decoder], settings: Settings, bento: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The graph with the three adapters, which a server is told to load."""
    options = parse_adapters([f"{name}={bento / name}" for name in NAMES], "tiny")
    folder = build_adapted_graph(settings, bento, read_adapters(settings, ENTRY, options))
    monkeypatch.setenv(ADAPTERS_VARIABLE, str(folder))
    return folder


def ask(address: str, model: str, tokens: list[int], **fields: object) -> dict[str, object]:
    body = {"model": model, "prompt": tokens, "max_tokens": 12, "temperature": 0, **fields}
    answer = httpx.post(f"{address}/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    whole: dict[str, object] = answer.json()
    return whole


def text_of(answer: dict[str, object]) -> str:
    choices = answer["choices"]
    assert isinstance(choices, list)
    return str(choices[0]["text"])


@pytest.mark.usefixtures("adapted")
def test_each_name_answers_as_its_merged_model_alone_and_together(
    merged: dict[str, Decoder], bento: Path, listening: Listen
) -> None:
    served = open_endpoint(bento / "src")
    prompts = [[*range(20, 60), *range(90 + 9 * n, 95 + 9 * n)] for n in range(3)]
    asked = [(name, prompt) for prompt in prompts for name in merged]
    expected = {}
    for name, prompt in asked:
        sampled = generate_answers(
            merged[name], [prompt], max_new=12, stop_ids=tuple(served.engine.stops), temperature=0
        )[0]
        kept = [token for token in sampled.tokens if token not in served.engine.stops]
        raw = b"".join(served.table[token] for token in kept)
        expected[name, tuple(prompt)] = raw.decode("utf-8", "replace")
    # The prompts begin alike: what one name's rows have read is of no use to another's.
    with listening(served) as address:
        alone = [text_of(ask(address, *pair)) for pair in asked]
        assert alone == [expected[name, tuple(prompt)] for name, prompt in asked]
        with ThreadPoolExecutor(len(asked)) as pool:
            together = list(pool.map(lambda pair: text_of(ask(address, *pair)), asked))
        assert together == alone
        assert served.engine.counts.prefix_hits > 0
    assert len({expected[name, tuple(prompts[0])] for name in merged}) == 4


@pytest.mark.usefixtures("adapted")
def test_the_models_are_listed_and_answers_say_which_answered(
    bento: Path, listening: Listen
) -> None:
    with listening(open_endpoint(bento / "src")) as address:
        cards = httpx.get(f"{address}/models").json()["data"]
        assert [(card["id"], card["parent"]) for card in cards] == [
            ("tiny", None), ("red", "tiny"), ("green", "tiny"), ("blue", "tiny"),
        ]  # fmt: skip
        assert httpx.get(f"{address}/models/red").json() == cards[1]
        base, red = ask(address, "tiny", [30, 31]), ask(address, "red", [30, 31])
        assert (base["model"], red["model"]) == ("tiny", "red")
        assert base["system_fingerprint"] != red["system_fingerprint"]
        body = {"model": "black", "prompt": [30]}
        missing = httpx.post(f"{address}/completions", json=body)
        assert missing.status_code == 404
        says = "this endpoint serves 'tiny', 'red', 'green', 'blue'."
        assert missing.json()["error"]["message"].endswith(says)


@pytest.mark.usefixtures("adapted")
def test_vectors_are_those_of_the_name_that_is_asked(bento: Path, listening: Listen) -> None:
    with listening(open_endpoint(bento / "src")) as address:

        def embed(model: str) -> list[float]:
            body = {"model": model, "input": [list(range(20, 60))]}
            answer = httpx.post(f"{address}/embeddings", json=body, timeout=60).json()
            vector: list[float] = answer["data"][0]["embedding"]
            return vector

        first = {name: embed(name) for name in ("tiny", "red", "green")}
        assert first["tiny"] != first["red"] != first["green"]
        assert {name: embed(name) for name in ("green", "tiny", "red")} == first


def test_without_the_variable_nothing_is_adapted(bento: Path, adapted: Path) -> None:
    del os.environ[ADAPTERS_VARIABLE]
    served = open_endpoint(bento / "src")
    assert not served.adapters
    assert (adapted / "adapters.json").is_file()


def test_a_graph_of_another_bundle_is_refused(bento: Path, adapted: Path) -> None:
    index = json.loads((adapted / "adapters.json").read_text())
    (adapted / "adapters.json").write_text(json.dumps({**index, "bundle": "beef"}))
    with pytest.raises(DataError, match="the adapters are of the bundle beef"):
        open_endpoint(bento / "src")


def test_the_graph_of_an_ended_server_is_deleted(
    bento: Path, settings: Settings, adapted: Path
) -> None:
    dead = adapted.with_name("999999999")
    dead.mkdir()
    options = {"red": bento / "red"}
    build_adapted_graph(settings, bento, read_adapters(settings, ENTRY, options))
    assert not dead.exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("red", "give NAME=FOLDER"),
        ("=folder", "a name has letters"),
        ("red=", "give NAME=FOLDER"),
        ("../red=folder", "a name has letters"),
        ("tiny=folder", "tiny is the base's name"),
        ("blue=folder", "blue is another adapter's name"),
    ],
)
def test_a_name_is_one_and_the_only_one(option: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"--adapter {option}: {says}"):
        parse_adapters(["blue=other", option], "tiny")


@pytest.mark.usefixtures("merged")
def test_an_adapter_of_another_checkpoint_is_refused(settings: Settings, tmp_path: Path) -> None:
    bundle = ENTRY.files_folder(settings) / "bundle.json"
    bundle.write_text('{"checkpoint": "another"}')
    with pytest.raises(ConfigError, match=r"red is of another base: .* checkpoint base, tiny ver"):
        read_adapters(settings, ENTRY, {"red": tmp_path / "red"})


@pytest.mark.usefixtures("merged")
def test_an_adapter_from_elsewhere_is_held_against_the_weights_it_names(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, base = tmp_path / "red", tmp_path / "published"
    (folder / "base.json").unlink()
    base.mkdir()
    edit_config(folder, base_model_name_or_path=str(base))
    (base / "model.safetensors").write_bytes(b"weights")
    read_adapters(settings, ENTRY, {"red": folder})
    assert capsys.readouterr().err == ""
    (base / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ConfigError, match="red is of another base: it was trained on the weights"):
        read_adapters(settings, ENTRY, {"red": folder})
    edit_config(folder, base_model_name_or_path="Qwen/Qwen3-0.6B")
    read_adapters(settings, ENTRY, {"red": folder})
    assert "could be seen by shapes alone" in capsys.readouterr().err
    llama = RegisteredVersion("tiny", 1, "models:/m-1", {BASE_TAG: "Llama-3.2-1B"}, ())
    with pytest.raises(ConfigError, match=r"on Qwen/Qwen3-0.6B, tiny version 1 is made of Llama"):
        read_adapters(settings, llama, {"red": folder})


@pytest.mark.usefixtures("merged")
def test_serve_hands_the_graph_to_its_server(
    settings: Settings, bento: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(serve_model, "find_bento", lambda *_: bento)
    monkeypatch.setattr(
        serve_model,
        "exec_foreground",
        lambda *_, as_json: calls.append(os.environ[ADAPTERS_VARIABLE]),
    )
    monkeypatch.setenv(ADAPTERS_VARIABLE, "")  # as it was before, once the test has ended
    program = serve_model.find_program(settings, ENTRY, adapters={"red": bento / "red"})
    program.exec_server("127.0.0.1", 1, as_json=False)
    assert calls == [str(settings.home / "adapters" / "servers" / str(os.getpid()))]
