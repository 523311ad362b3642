"""A folder that holds no tokens, or tokens out of range, is one line before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.text.token_arrays import open_split, save_split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_split(tmp_path, "train", [[5, 6, 0], [7, 0]], 16)
    write_meta(tmp_path)
    return tmp_path


def write_meta(folder: Path, **over: object) -> None:
    meta = {"vocabulary": 16, "eos": 0, "train_bytes": 9, **over}
    (folder / "meta.json").write_text(json.dumps(meta))


def tokens(values: list[object], kind: str) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "train.npy", np.array(values, dtype=kind))


def starts(*values: int) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "train.docs.npy", np.array(values, dtype=np.int64))


def test_a_good_folder_opens(folder: Path) -> None:
    assert open_split(folder, "train").document(1).tolist() == [7, 0]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (tokens([5, 6, 0, 16, 0], "u2"), "token 16 is outside the vocabulary of 16"),
        (tokens([5, 6, 0, -1, 0], "i4"), "token -1 is below 0"),
        (tokens([5.0, 6, 0, 7, 0], "f4"), "train.npy must be a flat array of whole numbers"),
        (tokens([[5, 6, 0, 7, 0]], "u2"), "train.npy must be a flat array of whole numbers"),
        (starts(0, 3, 9), "train.docs.npy does not cut the 5 tokens"),
        (starts(1, 3, 5), "train.docs.npy does not cut the 5 tokens"),
        (starts(0, 4, 3, 5), "train.docs.npy does not cut the 5 tokens"),
        (lambda folder: write_meta(folder, eos=16), "ends texts with 16, outside"),
        (lambda folder: (folder / "meta.json").write_text("{}"), "not a Tokens folder: 'voc"),
        (lambda folder: (folder / "train.npy").write_bytes(b""), "not a Tokens folder"),
        (lambda folder: (folder / "train.npy").write_bytes(b"\x93NUMPY\x01"), "not a Tokens"),
    ],
)
def test_a_bad_one_is_refused(folder: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(folder)
    with pytest.raises(DataError, match=words) as refused:
        open_split(folder, "train")
    assert "\n" not in str(refused.value)
