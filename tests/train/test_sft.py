"""Fine-tuning: answers alone are learned, batches hold like lengths, mismatches are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer, Tokens
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import TokenizedConversation, open_tokenizer
from components.text.chat.house_template import ANSWER_END, HOUSE_TOKENS
from components.text.decoder_files import load_model, save_model
from components.train.data.conversations import (
    ConversationBatches,
    Conversations,
    ReplayPlan,
)
from components.train.sft import FinetuneConfig, conversation_micro_batches, finetune
from components.train.trainer import training_loop
from components.train.training_config import OptimConfig, TrainingSafetyConfig
from models.decoder import Decoder
from models.generate import generate_answers
from models.shape import DecoderShape
from tests.train.conftest import NANO, sealed_model, sealed_tokens

END_ID = HOUSE_TOKENS.index(ANSWER_END)


def nano(**over: object) -> FinetuneConfig:
    given = {"steps": 4, "batch": 512, "longest": 64, "precision": "float32", **over}
    return FinetuneConfig(**given)  # type: ignore[arg-type]


def test_only_the_answer_and_its_end_are_targets() -> None:
    prompt, answer = [1, 20, 21, 2], [30, 31, END_ID]
    other = TokenizedConversation([1, 22, 2, 33, END_ID], ((3, 5),))
    [micro] = conversation_micro_batches(
        [TokenizedConversation([*prompt, *answer], ((4, 7),)), other], 100
    )
    assert micro.inputs.shape == micro.targets.shape == micro.answer.shape == (2, 6)
    assert micro.targets[0][micro.answer[0] > 0].tolist() == answer
    assert micro.targets[1][micro.answer[1] > 0].tolist() == [33, END_ID]
    assert micro.count == 5


def test_examples_end_their_prompt_with_the_assistants_turn(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    folder = store / instructions.name
    examples = Conversations(folder, store / tokenizer.name, longest=64).epoch_conversations(0)
    assert len(examples) == 60
    assert all(
        one.ids[one.answers[0][0] - 1] == HOUSE_TOKENS.index("<|assistant|>") for one in examples
    )
    assert all(one.ids[-1] == END_ID for one in examples)
    described = Conversations(folder, store / tokenizer.name, longest=64, kinds=("describe",))
    assert len(described.epoch_conversations(0)) == 30


def test_batches_hold_everything_once_an_epoch_with_little_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 60, (500,), generator=draw).tolist()
    examples = [
        TokenizedConversation([index, *[7] * length], ((1, length + 1),))
        for index, length in enumerate(lengths)
    ]
    batches = ConversationBatches(lambda epoch: examples, 600, seed=0, digest="ab" * 32)
    epoch = [batches.batch(step) for step in range(batches.batches_per_epoch)]
    seen = [one.ids[0] for batch in epoch for one in batch]
    assert len(seen) == len(set(seen)) > 450  # epochs may differ by a batch
    padded = sum(max(len(one.ids) for one in batch) * len(batch) for batch in epoch)
    assert sum(len(one.ids) for batch in epoch for one in batch) > 0.9 * padded
    assert all(max(len(o.ids) for o in batch) * len(batch) <= 600 for batch in epoch)
    again = ConversationBatches(lambda epoch: examples, 600, seed=0, digest="ab" * 32)
    assert again.batch(3) == batches.batch(3)


def test_an_answer_is_learned_by_heart(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    config = nano(
        steps=150,
        epochs=100,
        kinds=("module",),
        optim=OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01),
    )
    work = Workdir.temporary(store)
    made = finetune(config, sealed_model(store), instructions, tokenizer, work)
    curve = pq.read_table(store / made.name / "curve.parquet")["loss"].to_pylist()
    assert curve[0] > 4
    assert made.stats["loss"] < 1.0
    words = open_tokenizer(store / tokenizer.name)
    model = load_model(store / made.name)
    prompt = words.encode_question("What is f0?")
    [answer] = generate_answers(model, [prompt], max_new=30, stop_ids=(END_ID,), temperature=0)
    assert answer.stopped
    assert words.decode(answer.tokens).startswith("It is f")


def test_equal_calls_give_equal_bytes(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    model = sealed_model(store)
    digests = {
        finetune(nano(), model, instructions, tokenizer, Workdir.temporary(store)).digest
        for _ in range(2)
    }
    assert len(digests) == 1


def test_epochs_bound_the_budget(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    config = nano(steps=None, minutes=10, epochs=1)
    made = finetune(config, sealed_model(store), instructions, tokenizer, Workdir.temporary(store))
    assert made.stats["epochs"] == pytest.approx(1, abs=0.01)
    assert math.isfinite(made.stats["loss"])


def test_without_another_budget_epochs_are_one(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    """No clock has a say: the same steps on every machine."""
    model, whole = sealed_model(store), nano(steps=None, epochs=2)
    made = finetune(whole, model, instructions, tokenizer, Workdir.temporary(store))
    assert made.stats["epochs"] == pytest.approx(2, abs=0.01)
    counted = nano(steps=int(made.stats["steps"]))
    again = finetune(counted, model, instructions, tokenizer, Workdir.temporary(store))
    assert again.digest == made.digest


def test_another_vocabulary_is_refused(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    shape = DecoderShape(**{**NANO.__dict__, "vocabulary": 300})
    with pytest.raises(ConfigError, match=r"of 300, .*of 261, .* different tokenizers"):
        finetune(
            nano(),
            sealed_model(store, shape),
            instructions,
            tokenizer,
            Workdir.temporary(store),
        )


def test_a_checkpoint_of_another_shape_is_refused(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    wide = DecoderShape(**{**NANO.__dict__, "width": 64})
    torch.manual_seed(0)
    work = Workdir.temporary(store)
    save_model(work.folder, Decoder(NANO))
    weights = (work.folder / "model.safetensors").read_bytes()
    save_model(work.folder, Decoder(wide))
    (work.folder / "model.safetensors").write_bytes(weights)
    broken = work.seal(Checkpoint)
    with pytest.raises(ConfigError, match="of another shape"):
        finetune(nano(), broken, instructions, tokenizer, Workdir.temporary(store))


def test_no_instruction_left_is_an_error(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    folder = store / instructions.name
    with pytest.raises(DataError, match="of the kinds poem"):
        Conversations(folder, store / tokenizer.name, longest=64, kinds=("poem",))


def test_another_wording_each_epoch_and_the_same_answer(store: Path, tokenizer: Tokenizer) -> None:
    rows = [
        {
            "kind": "module",
            "question": f"A{n}?",
            "answer": f"It is {n}.",
            "wordings": [f"{letter}{n}?" for letter in "ABC"[: 1 + n]],
            "reworded": [f"Z{n}?"],
        }
        for n in range(3)
    ]
    (store / "rows").mkdir()
    write_shard(store / "rows" / "train.parquet", pa.Table.from_pylist(rows))
    conversations = Conversations(store / "rows", store / tokenizer.name, longest=64)
    words = open_tokenizer(store / tokenizer.name)
    asked = [
        [
            words.decode(one.ids[: one.answers[0][0]])
            for one in conversations.epoch_conversations(epoch)
        ]
        for epoch in range(4)
    ]
    assert asked == [
        ["A0?", "A1?", "A2?"],
        ["A0?", "B1?", "B2?"],
        ["A0?", "A1?", "C2?"],
        ["A0?", "B1?", "A2?"],
    ]
    told = [
        [one.ids[one.answers[0][0] :] for one in conversations.epoch_conversations(epoch)]
        for epoch in (0, 1)
    ]
    assert told[0] == told[1]


def test_an_epoch_of_other_lengths_has_a_batch_for_every_step() -> None:
    def of_epoch(epoch: int) -> list[TokenizedConversation]:
        return [
            TokenizedConversation([number] * (10 if epoch else 20), ((1, 10),))
            for number in range(30)
        ]

    batches = ConversationBatches(of_epoch, 60, seed=0, digest="ab" * 32)
    assert batches.batches_per_epoch == 10
    second = [batches.batch(step) for step in range(10, 20)]  # in five batches, each twice
    assert {one.ids[0] for batch in second for one in batch} == set(range(30))


@pytest.mark.parametrize("share", [0.0, 0.2, 1 / 3, 0.5, 0.9])
def test_replayed_steps_are_spread_evenly_and_counted(share: float) -> None:
    plan = ReplayPlan(share)
    for step in (0, 1, 7, 100, 1642):
        assert plan.replays_before(step) == sum(map(plan.is_replay, range(step)))
        assert abs(plan.replays_before(step) - share * step) < 1
    for wanted in (1, 13, 1314):
        total = plan.count_steps(wanted)
        assert total - plan.replays_before(total) == wanted
        assert total == 1 or total - 1 - plan.replays_before(total - 1) < wanted
    assert ReplayPlan(0.2).count_steps(1314) == 1642


def test_text_is_replayed_between_answers(
    instructions: Instructions, tokenizer: Tokenizer, tokens: Tokens, store: Path
) -> None:
    config = nano(steps=10, replay=0.2)
    model = sealed_model(store)
    made = finetune(config, model, instructions, tokenizer, Workdir.temporary(store), tokens)
    curve = pq.read_table(store / made.name / "curve.parquet").to_pydict()
    # 512 tokens a step: all of them are targets of text, only the answers' of conversations
    assert [step for step, targets in enumerate(curve["targets"]) if targets == 512] == [4, 9]
    assert made.stats["replayed_steps"] == 2
    alone = finetune(config, model, instructions, tokenizer, Workdir.temporary(store))
    assert alone.stats["replayed_steps"] == 0
    assert (
        pq.read_table(store / alone.name / "curve.parquet")["targets"].to_pylist()[:4]
        == (curve["targets"][:4])
    )
    other = finetune(
        nano(steps=10, replay=0.2, seed=1),
        model,
        instructions,
        tokenizer,
        Workdir.temporary(store),
        tokens,
    )
    assert other.digest != made.digest


def test_a_killed_fine_tuning_with_replay_ends_with_the_same_bytes(
    instructions: Instructions,
    tokenizer: Tokenizer,
    tokens: Tokens,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = nano(steps=9, replay=0.4, safety=TrainingSafetyConfig(checkpoint_seconds=1e-9))
    model = sealed_model(store)
    whole = finetune(config, model, instructions, tokenizer, Workdir.temporary(store), tokens)
    work = Workdir.temporary(store)
    advance = training_loop._TrainingRun.advance

    def killed(run: training_loop._TrainingRun[object]) -> None:
        if run.step == 5:
            raise KeyboardInterrupt
        advance(run)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop._TrainingRun, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, model, instructions, tokenizer, work, tokens)
    resumed = finetune(config, model, instructions, tokenizer, work, tokens)
    assert resumed.digest == whole.digest


def test_tokens_of_another_vocabulary_are_refused(
    instructions: Instructions, tokenizer: Tokenizer, store: Path
) -> None:
    other = sealed_tokens(store, 20, vocabulary=300)
    with pytest.raises(ConfigError, match=r"of 261, .*of 300, .* different tokenizers"):
        finetune(
            nano(), sealed_model(store), instructions, tokenizer, Workdir.temporary(store), other
        )
