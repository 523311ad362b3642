"""A transformers folder with more embedding rows than its tokenizer has ids goes on everywhere."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Export
from components.evaluate.bits_per_byte import LossConfig, evaluate_loss
from components.export.hf.export_hf import HfConfig, export_hf, save_hf
from components.export.hf.import_hf import ImportConfig, import_hf
from components.export.onnx.export_onnx import OnnxConfig, export_onnx
from components.text.decoder_files import load_model
from components.train.sft import FinetuneConfig, finetune
from models.decoder import Decoder
from tests.flows.pipelines.test_tokenizer_mismatch import CUT, PARITY, SHAPE, World, world

__all__ = ["world"]
PADDED = 384


def folder_of(world: World, *, tied: bool) -> tuple[Decoder, Export]:
    """A padded model, and a folder of it as transformers has it, with the tokenizer of 280."""
    torch.manual_seed(5)
    model = Decoder(replace(SHAPE, vocabulary=PADDED, tied=tied)).eval()
    work = world.work()
    save_hf(work.folder, model)
    shutil.copyfile(world.path(world.tokenizer) / "tokenizer.json", work.folder / "tokenizer.json")
    return model, work.seal(Export)


@pytest.mark.parametrize("tied", [True, False])
def test_unused_rows_are_cut_and_the_next_stages_take_it(world: World, tied: bool) -> None:
    padded, given = folder_of(world, tied=tied)
    made = import_hf(ImportConfig(), given, world.work())
    assert made.stats["unused_rows"] == PADDED - SHAPE.vocabulary
    model, ids = load_model(world.path(made)), torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(model(ids), padded(ids)[..., : SHAPE.vocabulary])
    folder = Path(made.name)
    assert (world.root / folder / "tokenizer.json").is_file()
    follow(world, made)


def follow(world: World, model: Checkpoint) -> None:
    told = {"instructions": world.instructions, "tokenizer": model}
    measured = evaluate_loss(LossConfig(window=32, stride=16), model, world.tokens, world.work())
    assert measured.stats["bits_per_byte"] > 0
    tuned = finetune(FinetuneConfig(**CUT), model, **told, tokens=world.tokens, work=world.work())
    for made in (
        export_hf(HfConfig(parity=PARITY), tuned, world.tokenizer, world.tokens, world.work()),
        export_onnx(OnnxConfig(parity=PARITY), tuned, world.tokens, model, world.work()),
    ):
        assert made.stats["passes"] == 1


def test_a_tokenizer_that_is_left_behind_is_told_of(world: World) -> None:
    _, given = folder_of(world, tied=True)
    made = import_hf(ImportConfig(tokenizer=False), given, world.work())
    assert made.stats["unused_rows"] == 0
    with pytest.raises(ConfigError, match=r"of 384, .*of 280, .*import_hf cuts .* unused rows"):
        evaluate_loss(LossConfig(window=32, stride=16), made, world.tokens, world.work())
