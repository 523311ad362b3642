"""Inputs of two tokenizers of equal size are refused wherever they meet, by every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from components.align.ppo import ppo
from components.align.ppo_config import PPOConfig
from components.align.preferences import PreferencesConfig, make_preferences
from components.align.train_reward import RewardConfig, train_reward
from components.core.errors import ConfigError
from components.core.store.artifact import Adapter, Checkpoint, Corpus, Lineage, Tokenizer
from components.core.store.document_rows import DOCUMENT_SCHEMA, document_id
from components.core.store.shards import shard_name, write_shard
from components.core.store.workdir import Workdir
from components.evaluate.bits_per_byte import LossConfig, evaluate_loss
from components.evaluate.compare_policies import CompareConfig, compare_policies
from components.evaluate.exact_facts import FactsConfig, evaluate_facts
from components.evaluate.four_choice import ChoiceConfig, evaluate_choice
from components.evaluate.keep_best import KeepBestConfig, keep_best
from components.evaluate.safety import SafetyConfig, evaluate_safety
from components.export.bundle import BundleConfig, bundle
from components.export.hf.export_hf import HfConfig, export_hf
from components.export.hf.import_hf import ImportConfig, import_hf
from components.export.onnx.export_onnx import OnnxConfig, export_onnx
from components.export.parity import ParityConfig, read_parity
from components.export.quantize import QuantizeConfig, quantize
from components.export.tensorrt.export_engine import EngineConfig, export_engine
from components.text.chat.tokenizer_files import tokenizer_digest
from components.text.decoder_files import read_tokenizer_digest
from components.tokenize.instructions import InstructionsConfig, make_instructions
from components.tokenize.pack_tokens import TokensConfig, pack_tokens
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer
from components.train.adapt import AdaptConfig, adapt
from components.train.distill import DistillConfig, distill
from components.train.merge import MergeConfig, merge
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig, finetune
from components.train.trainer.adapter_training import LoraConfig
from models.shape import DecoderShape
from tests.tokenize.conftest import page

SHAPE = DecoderShape(280, 32, 1, 2, 1, 16, 32, 64)
CUT: dict[str, Any] = {"steps": 1, "batch": 128, "micro_batch": 128}
PARITY = ParityConfig(positions=64, batch=2, steps=2)


class World:
    """Two tokenizers of 280 pieces, and of each the tokens, a model and an adapted one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        texts = [page(index) for index in range(30)]
        self.corpus = self._corpus(texts)
        odd = [{**one, "text": "zebra quartz vex jolt whims " * 40} for one in texts]
        config = TokenizerConfig(vocabulary=280)
        self.tokenizer = train_tokenizer(config, self.corpus, self.work())
        self.other_tokenizer = train_tokenizer(config, self._corpus(odd), self.work())
        self.tokens = self._tokens(self.tokenizer)
        self.other_tokens = self._tokens(self.other_tokenizer)
        self.model = self._model(self.tokens)
        self.other_model = self._model(self.other_tokens)
        asked = InstructionsConfig(min_heldout=0)
        self.instructions = make_instructions(asked, self.work(), self.corpus, self.tokens)

    def work(self) -> Workdir:
        return Workdir.temporary(self.root)

    def path(self, artifact: Any) -> Path:
        return self.work().artifact_folder(artifact)

    def _corpus(self, pages: list[dict[str, Any]]) -> Corpus:
        empty = {"source": "s", "ordinal": 0, "headings": [], "code": [], "navigation": ""}
        rows = [{**empty, **one, "id": document_id(one["url"], one["text"])} for one in pages]
        work = self.work()
        write_shard(work.folder / shard_name(0), pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
        return work.seal(Corpus)

    def _tokens(self, tokenizer: Tokenizer) -> Any:
        config = TokensConfig(min_train_tokens=100, heldout_share=0.2)
        return pack_tokens(config, self.corpus, tokenizer, self.work())

    def _model(self, tokens: Any) -> Checkpoint:
        config = PretrainConfig(shape=SHAPE, sequence_length=64, short_sequence_length=32, **CUT)
        return pretrain(config, tokens, self.work())

    def adapter(self) -> Adapter:
        """Of the other model."""
        config = AdaptConfig(sequence_length=64, lora=LoraConfig(rank=2), **CUT)
        made = adapt(config, self.other_model, self.other_tokens, self.work())
        lineage = Lineage(component="tests", code="", config="")
        return Adapter(name=f"{made.name}/adapter", digest="0" * 64, lineage=lineage)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(tmp_path_factory.mktemp("one") / "store")
    torch.set_num_threads(before)


def _told(w: World) -> dict[str, Any]:
    return {"instructions": w.instructions, "tokenizer": w.other_tokenizer}


def _exported(w: World) -> Any:
    return export_onnx(OnnxConfig(parity=PARITY), w.model, w.tokens, w.tokenizer, w.work())


def _preferred(w: World) -> Any:
    config = PreferencesConfig(questions=8, heldout_questions=4, max_new=8)
    return make_preferences(config, w.model, w.instructions, w.tokenizer, w.work())


def _rewarding(w: World) -> Checkpoint:
    return train_reward(RewardConfig(), w.model, _preferred(w), w.tokenizer, w.work())


CALLS: dict[str, Callable[[World], object]] = {
    "pretrain": lambda w: pretrain(
        PretrainConfig(shape=SHAPE, sequence_length=64, short_sequence_length=32, **CUT),
        w.tokens,
        w.work(),
        tokenizer=w.other_tokenizer,
    ),
    "pretrain mixture": lambda w: pretrain(
        PretrainConfig(
            shape=SHAPE, sequence_length=64, short_sequence_length=32, mixture={"tokens": 1, "b": 1}, **CUT
        ),
        w.tokens,
        w.work(),
        more={"b": w.other_tokens},
    ),
    "adapt": lambda w: adapt(AdaptConfig(sequence_length=64, **CUT), w.model, w.other_tokens, w.work()),
    "distill": lambda w: distill(
        DistillConfig(shape=SHAPE, sequence_length=64, **CUT), w.model, w.other_tokens, w.work()
    ),
    "merge": lambda w: merge(MergeConfig(same_base=False), w.model, w.adapter(), w.work()),
    "sft": lambda w: finetune(FinetuneConfig(**CUT), w.model, **_told(w), work=w.work()),
    "sft replay": lambda w: finetune(
        FinetuneConfig(**CUT), w.model, w.instructions, w.tokenizer, w.work(), w.other_tokens
    ),
    "loss": lambda w: evaluate_loss(
        LossConfig(window=32, stride=16), w.model, w.other_tokens, w.work()
    ),
    "choice": lambda w: evaluate_choice(ChoiceConfig(), w.model, **_told(w), work=w.work()),
    "facts": lambda w: evaluate_facts(
        FactsConfig(max_new=8), w.model, **_told(w), work=w.work()
    ),
    "compare": lambda w: compare_policies(
        CompareConfig(max_new=8), w.model, w.other_model, w.instructions, w.tokenizer, w.work()
    ),
    "safety": lambda w: evaluate_safety(
        SafetyConfig(max_new=8, probes=()), w.model, **_told(w), tokens=w.tokens, work=w.work()
    ),
    "keep_best": lambda w: keep_best(
        KeepBestConfig(max_new=8), w.model, {"ppo": w.other_model}, w.instructions, w.tokenizer,
        w.tokens, w.work(),
    ),
    "preferences": lambda w: make_preferences(
        PreferencesConfig(max_new=8), w.model, **_told(w), work=w.work()
    ),
    "reward": lambda w: train_reward(
        RewardConfig(), w.other_model, _preferred(w), w.other_tokenizer, w.work()
    ),
    "ppo": lambda w: ppo(
        PPOConfig(max_new=8), w.other_model, _rewarding(w), w.instructions, w.other_tokenizer,
        w.work(),
    ),
    "hf": lambda w: export_hf(HfConfig(), w.model, w.other_tokenizer, w.tokens, w.work()),
    "onnx": lambda w: export_onnx(OnnxConfig(), w.model, w.tokens, w.other_tokenizer, w.work()),
    "int8": lambda w: quantize(
        QuantizeConfig(), w.other_model, _exported(w), w.other_tokens, w.work()
    ),
    "engine": lambda w: export_engine(EngineConfig(), w.model, w.other_tokens, w.work()),
    "bundle": lambda w: bundle(
        BundleConfig(required=("hf",)), w.other_model, w.other_tokenizer, {"onnx": _exported(w)},
        w.work(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("stage", CALLS)
def test_equal_sizes_of_two_tokenizers_are_refused(world: World, stage: str) -> None:
    with pytest.raises(ConfigError, match="are of different tokenizers") as refused:
        CALLS[stage](world)
    told = str(refused.value)
    assert told.startswith(f"{stage.partition(' ')[0]}: ")
    assert "\n" not in told
    for tokenizer in (world.tokenizer, world.other_tokenizer):
        assert tokenizer_digest(world.path(tokenizer))[:12] in told


def test_a_model_keeps_its_tokenizer_through_the_chain(world: World) -> None:
    digest = tokenizer_digest(world.path(world.tokenizer))
    told = {"instructions": world.instructions, "tokenizer": world.tokenizer}
    tuned = finetune(FinetuneConfig(**CUT), world.model, **told, work=world.work())
    student = DistillConfig(shape=SHAPE, sequence_length=64, **CUT)
    made = [
        world.model,
        tuned,
        adapt(AdaptConfig(sequence_length=64, **CUT), world.model, world.tokens, world.work()),
        distill(student, world.model, world.tokens, world.work()),
        _rewarding(world),
    ]
    given = export_hf(HfConfig(parity=PARITY), tuned, world.tokenizer, world.tokens, world.work())
    made.append(import_hf(ImportConfig(), given, world.work()))
    assert [read_tokenizer_digest(world.path(one)) for one in made] == [digest] * len(made)


def test_parity_tries_the_shipped_tokenizer(world: World) -> None:
    assert read_parity(world.path(_exported(world))).tokenizer_pages > 2


def test_old_tokens_are_told_apart_by_what_they_hold(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing recorded is accepted and said; a tokenizer that encodes otherwise is not."""
    old, model = forgetful(world, world.tokens), forgetful(world, world.model)
    config = OnnxConfig(parity=PARITY)
    with pytest.raises(
        ConfigError, match=r"encodes the held-out page .* otherwise than the tokens"
    ):
        export_onnx(config, model, old, world.other_tokenizer, world.work())
    made = export_onnx(config, model, old, world.tokenizer, world.work())
    assert made.stats["passes"] == 1
    said = [one.getMessage() for one in caplog.records if "not recorded" in one.getMessage()]
    assert said
    assert all(one.startswith("onnx: ") for one in said)


def forgetful(world: World, artifact: Any) -> Any:
    """A copy as it was made before tokenizers were recorded."""
    import json
    import shutil

    work = world.work()
    shutil.copytree(world.path(artifact), work.folder, dirs_exist_ok=True)
    for path in work.folder.iterdir():
        path.chmod(0o755 if path.is_dir() else 0o644)
    (work.folder / "artifact.json").unlink()
    for name in ("meta.json", "model.json"):
        if (work.folder / name).is_file():
            told = json.loads((work.folder / name).read_text())
            assert told.pop("tokenizer")
            (work.folder / name).write_text(json.dumps(told))
    return work.seal(type(artifact))
