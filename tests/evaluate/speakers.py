"""A tokenizer of a few texts, and small models that know their answers by heart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from tokenizers import Tokenizer as BPE
from tokenizers import decoders, models, pre_tokenizers, trainers

from components.core.store.artifact import Checkpoint, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.decoder_files import save_model
from models.answer_sequences import answer_log_probs, join_answers, token_log_probs
from models.decoder import Decoder
from models.shape import DecoderShape


def seal_tokenizer(root: Path, texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Train byte pairs on ``texts``."""
    bpe = BPE(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    work = Workdir.temporary(root)
    bpe.save(str(work.folder / "tokenizer.json"))
    return work.seal(Tokenizer)


def seal_speaker(
    root: Path,
    tokenizer: Tokenizer,
    turns: Sequence[tuple[str, str]],
    *,
    steps: int,
    width: int = 48,
    context: int = 96,
    vocabulary: int = 0,
) -> Checkpoint:
    """Train a decoder on (question, answer) turns, all of them at every step, with its curve."""
    work = Workdir.temporary(root)
    opened = open_tokenizer(work.artifact_folder(tokenizer))
    torch.manual_seed(0)
    shape = DecoderShape(
        vocabulary=vocabulary or opened.vocabulary,
        width=width,
        layers=2,
        heads=2,
        kv_heads=1,
        head_width=width // 3,
        hidden=2 * width,
        context=context,
    )
    model = Decoder(shape)
    batch = join_answers(
        [opened.encode_question(question) for question, _ in turns],
        [[*opened.encode_text(answer), *opened.answer_end_ids] for _, answer in turns],
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3)
    losses: list[float] = []
    for _ in range(steps):
        loss = -token_log_probs(answer_log_probs(model, batch), batch.answers_n).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    save_model(work.folder, model)
    curve = pa.table({"step": list(range(steps)), "loss": losses})
    write_shard(work.folder / "curve.parquet", curve)
    return work.seal(Checkpoint)
