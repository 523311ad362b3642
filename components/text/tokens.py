"""Packed tokens on disk: one flat array a split, with document boundaries.

train.npy       uint16 (uint32 from 65,536 tokens on), documents one after another, each
                closed by the end-of-text token
train.docs.npy  int64 [documents + 1], where each document starts; the last entry is the end
heldout.npy, heldout.docs.npy   the same for the held-out pages
heldout.parquet id, url, text of the held-out pages, in the same order
meta.json       {"vocabulary": ..., "eos": ..., "train_bytes": ..., "heldout_bytes": ...}
                (UTF-8 bytes of the text, for bits per byte)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.core.errors import DataError

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class TokenSplit:
    """One split, memory-mapped."""

    tokens: NDArray[np.integer]
    documents: NDArray[np.int64]
    vocabulary: int
    eos: int
    text_bytes: int

    def document(self, index: int) -> NDArray[np.integer]:
        """Tokens of one document, with its end-of-text token."""
        return self.tokens[self.documents[index] : self.documents[index + 1]]


def open_split(folder: Path, split: Split) -> TokenSplit:
    """A split of a Tokens artifact.

    Raises:
        DataError: a file is missing or damaged, or a token is out of range.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        tokens = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        documents = np.load(folder / f"{split}.docs.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder.name}: not a Tokens folder: {error}") from error
    if len(tokens) and int(tokens.max()) >= meta["vocabulary"]:
        raise DataError(
            f"{folder.name}: token {int(tokens.max())} is outside the vocabulary of "
            f"{meta['vocabulary']}"
        )
    return TokenSplit(tokens, documents, meta["vocabulary"], meta["eos"], meta[f"{split}_bytes"])


def save_split(folder: Path, split: Split, documents: list[list[int]], vocabulary: int) -> None:
    """Write one split's arrays (``meta.json`` is the caller's)."""
    kind = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    lengths = np.fromiter((len(d) for d in documents), dtype=np.int64, count=len(documents))
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    flat = np.fromiter((t for d in documents for t in d), dtype=kind, count=int(starts[-1]))
    np.save(folder / f"{split}.npy", flat, allow_pickle=False)
    np.save(folder / f"{split}.docs.npy", starts, allow_pickle=False)
