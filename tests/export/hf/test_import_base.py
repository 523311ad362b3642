"""Somebody's folder as the start of a run: its own tokenizer, its record, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import digest_file
from components.core.store.workdir import Workdir
from components.export.hf.import_base import BaseConfig, import_base, import_base_tokenizer
from components.text.base_record import NO_LICENCE, read_base_record
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.tokenizer_files import read_fast_tokenizer
from components.text.decoder_files import load_model, read_tokenizer_digest
from tests.base_models import KINDS, write_base

New = Callable[[], Workdir]


def edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def config_of(folder: Path, **fields: Any) -> BaseConfig:
    return BaseConfig.model_validate({"path": str(folder), **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_tokenizer_of_a_padded_sharded_bfloat16_folder(
    kind: str, fresh: New, tmp_path: Path
) -> None:
    folder = write_base(tmp_path / kind, kind, dtype="bfloat16")
    config = config_of(folder)
    tokenizer, base = import_base_tokenizer(config, fresh()), import_base(config, fresh())
    words = open_tokenizer(fresh().artifact_folder(tokenizer))
    place = fresh().artifact_folder(base)
    model = load_model(place)
    padded = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert base.stats["unused_rows"] == padded - words.vocabulary > 0
    assert model.shape.vocabulary == words.vocabulary == tokenizer.stats["vocabulary"]
    assert model.shape.tied == (kind == "qwen3")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert len(list(folder.glob("*.safetensors"))) > 1
    record = read_base_record(place)
    assert record.weights == {p.name: digest_file(p) for p in folder.glob("*.safetensors")}
    assert record.name == kind
    # Checkpoint and tokenizer are of one tokenizer, whichever of the two a stage is given.
    assert read_tokenizer_digest(place)
    assert words.encode_question("Why?") == open_tokenizer(place).encode_question("Why?")


def test_a_folder_without_a_template_needs_one_and_takes_it(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"no chat template .* by base.chat_template"):
        import_base_tokenizer(config_of(folder), fresh())
    given = tmp_path / "mine.jinja"
    given.write_text(template.replace("<|eot_id|>", "!<|eot_id|>"))
    config = config_of(folder, chat_template=str(given))
    for made in (import_base_tokenizer(config, fresh()), import_base(config, fresh())):
        words = open_tokenizer(fresh().artifact_folder(made))
        assert words.template.source == given.read_text()
        (conversation,) = words.encode_conversation(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        )
        start, end = conversation.answers[0]
        assert words.decode(conversation.ids[start:end]) == "b!"


def test_a_template_that_is_given_replaces_every_other(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    edit_json(folder / "tokenizer_config.json", chat_template="{{ 'older' }}")
    given = tmp_path / "mine.jinja"
    given.write_text((folder / "chat_template.jinja").read_text() + "{# mine #}")
    made = import_base_tokenizer(config_of(folder, chat_template=str(given)), fresh())
    place = fresh().artifact_folder(made)
    assert (place / "chat_template.jinja").read_text() == given.read_text()
    assert "chat_template" not in json.loads((place / "tokenizer_config.json").read_text())


def test_a_template_with_an_endless_loop_is_refused(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(endless)
    with pytest.raises(ConfigError, match="the chat template refuses a question and its answer"):
        import_base_tokenizer(config_of(folder), fresh())


def test_code_of_its_own_is_never_run_nor_named(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "qwen3")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    own = {"AutoTokenizer": [None, "own.Words"], "AutoModelForCausalLM": "own.Model"}
    edit_json(folder / "tokenizer_config.json", auto_map=own, tokenizer_class="OwnWords")
    edit_json(folder / "config.json", auto_map=own)
    config = config_of(folder)
    import_base(config, fresh())
    place = fresh().artifact_folder(import_base_tokenizer(config, fresh()))
    settings = json.loads((place / "tokenizer_config.json").read_text())
    assert "auto_map" not in settings
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not (place / "own.py").exists()
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_changed_since_the_plan_is_not_imported(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    config = config_of(folder)
    (folder / "LICENSE").write_text("MIT License\n")
    for stage in (import_base_tokenizer, import_base):
        with pytest.raises(DataError, match="the folder base is gone or changed; run again"):
            stage(config, fresh())
    again = BaseConfig.model_validate(config.model_dump())  # as a repeated run reads its record
    assert again == config


def test_a_config_of_a_far_larger_model_asks_for_no_memory(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    edit_json(folder / "config.json", vocab_size=10**12)
    with pytest.raises(ConfigError, match=r"describes [\d,]+ parameters, and the weights have"):
        import_base(config_of(folder), fresh())


def test_a_tokenizer_larger_than_the_model_is_refused(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "qwen3")
    words = read_fast_tokenizer(folder)
    words.add_tokens([f"<added {number}>" for number in range(100)])
    words.save(str(folder / "tokenizer.json"))
    with pytest.raises(
        ConfigError, match=r"the tokenizer does not fit: it has \d+ tokens, the model has \d+"
    ):
        import_base(config_of(folder), fresh())


def test_a_download_cache_names_the_model_and_no_licence_is_said(
    fresh: New, tmp_path: Path
) -> None:
    place = tmp_path / "models--mill--Base-1B" / "snapshots" / "0a1b"
    place.parent.mkdir(parents=True)
    folder = write_base(tmp_path / "blobs", "llama")
    place.mkdir()
    for path in folder.iterdir():  # as hubs keep downloads
        if path.name != "LICENSE":
            (place / path.name).symlink_to(path)
    record = read_base_record(fresh().artifact_folder(import_base(config_of(place), fresh())))
    assert record.name == "mill/Base-1B"
    assert record.licence_name == NO_LICENCE
    assert set(record.weights) == {path.name for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("value", [None, 3, ["x"], {"chat_template": "x"}])
def test_what_is_no_folder_is_no_base(value: object) -> None:
    with pytest.raises(ValidationError):
        BaseConfig.model_validate(value)


def test_a_long_context_is_cut_and_positions_turn_as_before(fresh: New, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", "llama")
    scaled = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128}
    scaled |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500_000.0}
    edit_json(folder / "config.json", rope_parameters=scaled, max_position_embeddings=40_960)
    config = config_of(folder)
    shape = config.read_shape()
    assert shape is not None
    assert shape.context == 4096
    whole, cut = (
        load_model(fresh().artifact_folder(import_base(config_of(folder, context=tokens), fresh())))
        for tokens in (None, 64)
    )
    assert (whole.shape.context, cut.shape.context) == (40_960, 64)
    ids = torch.arange(64)[None]
    with torch.no_grad():
        assert torch.equal(whole(ids), cut(ids))
