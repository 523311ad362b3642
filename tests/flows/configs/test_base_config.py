"""A base in a run's config: how it is given, and what is refused before a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.workdir import Workdir
from components.export.hf.import_base import BaseConfig, import_base_tokenizer
from flows.configs.target_config import read_target
from flows.configs.text_run import TextRun
from flows.runner.plan_view import RunPlan
from flows.runner.run_pipeline import plan_target
from tests.base_models import write_base
from tests.flows.finetune.finetuning import write_chats

CHATS = "instructions.files=[{}]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and conversations."""
    root = tmp_path_factory.mktemp("made")
    write_base(root / "mill-base", "qwen3")
    write_chats(root / "chats.jsonl", 6)
    return root


def read(root: Path, *sets: str, target: str = "finetune") -> TextRun:
    return read_target(target, sets, Settings(home=root / "home", reference_data=root))


def plan(root: Path, *sets: str, target: str = "finetune") -> RunPlan:
    return plan_target(Settings(home=root / "home", reference_data=root), target, sets)


def given(root: Path) -> tuple[str, str]:
    return f"base={root / 'mill-base'}", CHATS.format(root / "chats.jsonl")


def test_a_path_alone_is_a_base_and_plans_the_flow_of_its_own(made: Path) -> None:
    run = read(made, *given(made))
    assert run.base is not None
    assert (run.base.path, run.base.name) == (str(made / "mill-base"), "mill-base")
    steps = [step.name for step in plan(made, *given(made)).steps]
    assert steps[:4] == ["tokenizer", "base", "conversations", "change"]
    assert not {"scrape", "pretrain", "choice", "facts", "check"} & set(steps)
    assert steps[-1] == "dossier"


def test_relative_paths_start_from_the_file_that_gives_them(made: Path) -> None:
    (made / "own.jinja").write_text((made / "mill-base" / "chat_template.jinja").read_text())
    path = made / "my-run.yaml"
    for base in ("mill-base", "{path: mill-base, chat_template: own.jinja}"):
        path.write_text(f"preset: finetune\nbase: {base}\ninstructions: {{files: [chats.jsonl]}}\n")
        run = read(made, target=str(path))
        assert run.base is not None
        assert run.base.path == str(made / "mill-base")
        assert run.name == "my-run"
    assert run.base.chat_template is not None
    assert run.base.chat_template.path == str(made / "own.jinja")


def test_an_edit_of_a_file_that_is_read_changes_the_digest(made: Path, tmp_path: Path) -> None:
    def digest() -> str:
        run = read(made, *given(made))
        assert run.base is not None
        return run.base.sha256

    first, notes = digest(), made / "mill-base" / "notes.txt"
    notes.write_text("not read")
    assert digest() == first
    settings = made / "mill-base" / "generation_config.json"
    content = settings.read_text()
    settings.write_text(content + "\n")
    assert digest() != first
    settings.write_text(content)
    assert digest() == first


@pytest.mark.parametrize(
    ("preset", "with_base", "told"),
    [
        (
            "finetune",
            False,
            "the preset finetune needs base and instructions.files: add --set base",
        ),
        ("assistant", False, "the preset assistant needs instructions.files: add --set 'instruct"),
        ("finetune", True, "base needs instructions.files: add --set 'instructions.files=[chats"),
    ],
)
def test_missing_files_are_asked_for_in_one_line(
    preset: str, with_base: bool, told: str, made: Path
) -> None:
    sets = given(made)[:1] if with_base else ()
    with pytest.raises(ConfigError) as error:
        read(made, *sets, target=preset)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_an_assistant_is_trained_from_pages_and_conversations(made: Path) -> None:
    steps = [step.name for step in plan(made, given(made)[1], target="assistant").steps]
    assert {"scrape", "conversations", "pretrain", "choice"} <= set(steps)


def test_gates_on_pages_are_refused_in_a_run_without_pages(made: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"choice\.four_choice_accuracy are measured on pages"
    ) as e:
        read(made, *given(made), target="tiny")
    assert "take preset finetune, or gates and comparisons of loss, compare, safety" in str(e.value)
    gate = "promote.gates=[{name: x, figure: facts.describe, direction: above, bound: 0.5}]"
    with pytest.raises(ConfigError, match=r"facts\.describe is measured on pages"):
        read(made, *given(made), gate)


def test_a_window_beyond_the_context_of_the_base_is_refused(made: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"loss.window \(600\) must be within the context of base"
    ):
        read(made, *given(made), "loss.window=600")


def break_base(folder: Path, how: str) -> None:
    config = folder / "config.json"
    if how == "another class":
        values = json.loads(config.read_text())
        config.write_text(json.dumps({**values, "model_type": "gpt2"}))
    elif how == "a pickle":
        for path in folder.glob("model*"):
            path.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    elif how == "an old vocabulary":
        (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    elif how == "no weights":
        for path in folder.glob("model*"):
            path.unlink()
    elif how == "no model":
        config.unlink()
    elif how == "damaged":
        config.write_text("{")
    elif how == "an index that leads out":
        index = next(folder.glob("*.index.json"))
        index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../x.safetensors"}}))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("another class", "config.json: model_type is 'gpt2': known are qwen3, llama"),
        ("a pickle", "pytorch_model.bin is a pickle, which is never opened"),
        ("an old vocabulary", "holds tokenizer.model and no tokenizer.json"),
        ("no weights", "holds no model.safetensors"),
        ("no model", "holds no config.json; give the folder of a model as transformers saves it"),
        ("damaged", "config.json cannot be read"),
        ("an index that leads out", "names ../x.safetensors, which is not there"),
        ("gone", "broken is no folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(
    how: str, told: str, made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    if how != "gone":
        write_base(folder, "llama")
        break_base(folder, how)
    with pytest.raises(ConfigError) as error:
        read(made, f"base={folder}", given(made)[1])
    assert told in str(error.value)
    assert str(error.value).startswith("--set base=") or "base: " in str(error.value)
    assert "\n" not in str(error.value)


def test_pieces_that_no_endpoint_streams_are_refused_in_the_first_step(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    base = write_base(tmp_path / "base", "qwen3")
    words = Tokenizer.from_file(str(base / "tokenizer.json"))
    pieces = Tokenizer(models.BPE({"▁a": 0, "b": 1}, []))
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    added = words.get_added_tokens_decoder().values()
    pieces.add_special_tokens([token.content for token in added if token.special])
    pieces.save(str(base / "tokenizer.json"))
    with pytest.raises(ConfigError, match="no byte-level one: only models with a byte-level BPE"):
        import_base_tokenizer(
            BaseConfig.model_validate(str(base)), Workdir.temporary(tmp_path / "store")
        )
