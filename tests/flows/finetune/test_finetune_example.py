"""The example of fine-tuning, as it lies in the checkout, on a small random-weight Qwen3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.core.action import Workspace
from components.core.settings import Settings, own_checkout
from components.core.store.store import Store
from components.text.decoder_files import load_model
from flows.configs.target_config import read_target
from flows.pipelines.choose_pipeline import call_pipeline
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.runner import ResultCollector, StageReached, StoreRunner
from tests.base_models import write_base
from tests.flows.finetune.finetuning import QUICK

pytest.importorskip("transformers", reason="a development dependency")


def test_the_example_runs_to_a_folder_for_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "finetune"
    shutil.copytree(own_checkout() / "examples" / "finetune", folder)
    write_base(folder / "base", "qwen3")
    settings = Settings(home=tmp_path / "home", reference_data=tmp_path)
    run = read_target(str(folder / "support.yaml"), QUICK, settings)
    collector = ResultCollector()
    runner = StoreRunner(Store(settings.store), Workspace(settings), listener=collector, until="hf")
    with pytest.raises(StageReached):
        call_pipeline(run, runner, make_source_resolver())
    steps = {result.name: result.artifact for result in collector.results}
    read = steps["conversations"].stats
    assert (read["set_aside"], read["rows"]) == (0, 124)
    exported = settings.store / steps["hf"].name
    words = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(exported, local_files_only=True)
    assert model.config.vocab_size == len(words)
    assert load_model(settings.store / steps["keep_best"].name).shape.vocabulary == len(words)
