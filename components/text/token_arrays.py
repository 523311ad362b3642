"""Packed tokens on disk: one flat array per split, with document boundaries.

train.npy       uint16 (uint32 from 65,536 tokens on), documents one after another, each
                closed by the end-of-text token
train.docs.npy  int64 [documents + 1], where each document starts; the last entry is the end
heldout.npy, heldout.docs.npy   the same for the held-out pages
heldout.parquet id, url, text of the held-out pages, in the same order
meta.json       {"vocabulary": ..., "eos": ..., "train_bytes": ..., "heldout_bytes": ...,
                "tokenizer": ...} (UTF-8 bytes of the text, for bits per byte; digest of the
                tokenizer that made the ids, absent in old ones)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.core.errors import DataError

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, Split] = ("train", "heldout")
HELDOUT_TEXTS = "heldout.parquet"


@dataclass(frozen=True)
class TokenSplit:
    """One split, memory-mapped."""

    tokens: NDArray[np.integer]
    """[tokens] ids of all documents, one after another."""
    documents: NDArray[np.int64]
    """[documents + 1] first token of each document."""
    vocabulary: int
    eos: int
    """Id of the end-of-text token."""
    text_bytes: int
    """UTF-8 bytes of the texts, for bits per byte."""

    def document(self, index: int) -> NDArray[np.integer]:
        """Tokens of one document, with its end-of-text token."""
        return self.tokens[self.documents[index] : self.documents[index + 1]]


@dataclass(frozen=True)
class TokensMeta:
    """Content of ``meta.json``."""

    vocabulary: int
    eos: int
    text_bytes: dict[Split, int]
    tokenizer: str
    """Digest of the tokenizer that made the ids; empty where none is recorded."""


def read_meta(folder: Path) -> TokensMeta:
    """``meta.json`` of a Tokens artifact.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return TokensMeta(
            vocabulary=int(meta["vocabulary"]),
            eos=int(meta["eos"]),
            text_bytes={
                split: int(meta[f"{split}_bytes"]) for split in SPLITS if f"{split}_bytes" in meta
            },
            tokenizer=str(meta.get("tokenizer", "")),
        )
    except FileNotFoundError as error:
        raise DataError(_absent_file_message(folder, error)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder.name}: not a Tokens folder: {error}") from error


def _absent_file_message(folder: Path, error: FileNotFoundError) -> str:
    name = Path(error.filename).name
    return f"{folder.name}: holds no {name}: give a folder that the stage tokens made"


def open_split(folder: Path, split: Split) -> TokenSplit:
    """Open a split of a Tokens artifact and check it (a second for some GB).

    Raises:
        DataError: a file is missing or damaged, or a token is out of range.
    """
    meta = read_meta(folder)
    try:
        tokens = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        documents = np.load(folder / f"{split}.docs.npy", allow_pickle=False)
        text_bytes = meta.text_bytes[split]
    except FileNotFoundError as error:
        raise DataError(_absent_file_message(folder, error)) from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{folder.name}: not a Tokens folder: {error}") from error
    vocabulary, eos = meta.vocabulary, meta.eos
    _check_form(folder, split, tokens, documents)
    # Both ends, as far as the dtype reaches beyond them: neither costs where it cannot be.
    kind = np.iinfo(tokens.dtype)
    if len(tokens) and kind.max >= vocabulary and int(tokens.max()) >= vocabulary:
        raise DataError(
            f"{folder.name}: token {int(tokens.max())} is outside the vocabulary of {vocabulary}"
        )
    if len(tokens) and kind.min < 0 and int(tokens.min()) < 0:
        raise DataError(f"{folder.name}: token {int(tokens.min())} is below 0")
    if not 0 <= eos < vocabulary:
        raise DataError(
            f"{folder.name}: meta.json ends texts with {eos}, outside the vocabulary of "
            f"{vocabulary}"
        )
    return TokenSplit(tokens, documents.astype(np.int64, copy=False), vocabulary, eos, text_bytes)


def _check_form(
    folder: Path, split: Split, tokens: NDArray[np.integer], documents: NDArray[np.int64]
) -> None:
    """Refuse arrays that are no tokens, and documents that are not cut from them."""
    for name, array in ((f"{split}.npy", tokens), (f"{split}.docs.npy", documents)):
        if array.ndim != 1 or array.dtype.kind not in "ui":
            raise DataError(
                f"{folder.name}: {name} must be a flat array of whole numbers, is "
                f"{array.dtype} of shape {array.shape}"
            )
    whole = len(documents) > 0 and documents[0] == 0 and documents[-1] == len(tokens)
    if not whole or (np.diff(documents.astype(np.int64, copy=False)) < 0).any():
        raise DataError(
            f"{folder.name}: {split}.docs.npy does not cut the {len(tokens)} tokens of "
            f"{split}.npy into documents"
        )


def read_heldout_texts(folder: Path, split: TokenSplit) -> tuple[list[str], list[str]]:
    """The held-out pages' ids and texts, in the order of the tokens.

    Raises:
        DataError: there is none, or their number differs.
    """
    path = folder / HELDOUT_TEXTS
    try:
        table = pq.read_table(path, columns=["id", "text"])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{folder.name}: {path.name} cannot be read: {error}") from error
    names: list[str] = table["id"].to_pylist()
    texts: list[str] = table["text"].to_pylist()
    if len(texts) != len(split.documents) - 1:
        raise DataError(
            f"{folder.name}: {len(texts)} held-out texts, {len(split.documents) - 1} in tokens"
        )
    if not sum(map(len, texts)):
        raise DataError(f"{folder.name}: no page is held out; give more pages or hold out more")
    return names, texts


def save_split(folder: Path, split: Split, documents: list[list[int]], vocabulary: int) -> None:
    """Write one split's arrays (``meta.json`` is the caller's).

    Args:
        folder: exists.
        split: names the files.
        documents: token ids of each document, with its end-of-text token.
        vocabulary: decides the width of an id: 16 bits up to 65,536.
    """
    kind = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    lengths = np.fromiter((len(d) for d in documents), dtype=np.int64, count=len(documents))
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    flat = np.fromiter((t for d in documents for t in d), dtype=kind, count=int(starts[-1]))
    np.save(folder / f"{split}.npy", flat, allow_pickle=False)
    np.save(folder / f"{split}.docs.npy", starts, allow_pickle=False)
