"""Character-level corpus as tokens, and the exact loss of a model on its held-out tenth.

The first nine tenths are for training, as published for nanoGPT. The end-of-text token that the
data loader needs is one more entry of the vocabulary; it never occurs in the single document.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split, save_split

if TYPE_CHECKING:
    from models.decoder import Decoder

DATA = "charlm/tinyshakespeare.txt"
_ROWS = 64


@dataclass(frozen=True)
class CharCorpus:
    """Token artifact of the corpus below ``root``."""

    root: Path
    tokens: Tokens
    vocabulary: int
    """Number of distinct characters, and the end-of-text token."""

    @property
    def folder(self) -> Path:
        return self.root / self.tokens.name


def pack_letters(path: Path, root: Path) -> CharCorpus:
    """Encode a text file with one token a character; the last tenth is held out."""
    text = path.read_text()
    number = {letter: at for at, letter in enumerate(sorted(set(text)))}
    ids = [number[letter] for letter in text]
    eos, cut = len(number), int(0.9 * len(ids))
    work = Workdir.temporary(root, component="bench.letters")
    save_split(work.folder, "train", [ids[:cut]], eos + 1)
    save_split(work.folder, "heldout", [ids[cut:]], eos + 1)
    sizes = {"train_bytes": cut, "heldout_bytes": len(ids) - cut}
    meta = {"vocabulary": eos + 1, "eos": eos, **sizes}
    (work.folder / "meta.json").write_text(json.dumps(meta))
    return CharCorpus(root, work.seal(Tokens), eos + 1)


def heldout_loss(letters: CharCorpus, model: Checkpoint, sequence_length: int) -> float:
    """Held-out loss in nats a character, over every character but the first, in float32.

    Args:
        letters: the corpus.
        model: checkpoint below the same root.
        sequence_length: length of the consecutive blocks, each evaluated without earlier context.
    """
    split = open_split(letters.folder, "heldout")
    return block_loss(load_model(letters.root / model.name), split.tokens, sequence_length)


def block_loss(model: Decoder, tokens: np.ndarray, sequence_length: int) -> float:
    """Mean loss in nats over every token but the first, in consecutive blocks.

    Args:
        model: decoder in float32.
        tokens: token ids [n].
        sequence_length: length of a block; the last one may be shorter.
    """
    import torch
    from torch.nn import functional as F

    ids = torch.from_numpy(np.asarray(tokens).astype(np.int64))
    whole = (len(ids) - 1) // sequence_length * sequence_length
    inputs, targets = (
        ids[:whole].view(-1, sequence_length),
        ids[1 : whole + 1].view(-1, sequence_length),
    )
    pieces = list(zip(torch.split(inputs, _ROWS), torch.split(targets, _ROWS), strict=True))
    if whole < len(ids) - 1:
        pieces.append((ids[None, whole:-1], ids[None, whole + 1 :]))
    total = 0.0
    with torch.inference_mode():
        for block_inputs, block_targets in pieces:
            logits = model(block_inputs).flatten(0, 1)
            total += float(F.cross_entropy(logits, block_targets.flatten(), reduction="sum"))
    return total / (len(ids) - 1)
