"""The digest of a tokenizer: equal for what encodes alike, another for other pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from components.core.errors import DataError
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.chat.tokenizer_files import tokenizer_digest
from components.tokenize.train_tokenizer import TokenizerConfig, untrained_tokenizer


def trained(folder: Path, text: str) -> Path:
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    folder.mkdir()
    tokenizer = untrained_tokenizer(TokenizerConfig())
    trainer = BpeTrainer(
        vocab_size=275,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return trained(tmp_path / "one", "walk talk chalk stalk balk caulk hulk sulk milk silk")


def test_other_pieces_are_another_tokenizer(folder: Path, tmp_path: Path) -> None:
    other = trained(tmp_path / "other", "zebra cobra umbra sombre timbre fibre sabre ombre")
    sizes = [open_tokenizer(one).vocabulary for one in (folder, other)]
    assert sizes == [275, 275]
    assert tokenizer_digest(folder) != tokenizer_digest(other)


def test_a_file_saved_again_is_the_same_tokenizer(folder: Path) -> None:
    before, path = tokenizer_digest(folder), folder / "tokenizer.json"
    again = Tokenizer.from_file(str(path))
    again.enable_truncation(16)
    again.enable_padding()
    again.save(str(path), pretty=False)
    assert tokenizer_digest(folder) == before
    content = json.loads(path.read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    path.write_text(json.dumps(content))  # as older versions of tokenizers wrote them
    assert tokenizer_digest(folder) == before


def test_a_folder_that_transformers_saved_again_is_the_same_tokenizer(
    folder: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    fast.save_pretrained(tmp_path / "saved")
    assert tokenizer_digest(tmp_path / "saved") == tokenizer_digest(folder)


@pytest.mark.parametrize("field", ["pre_tokenizer", "decoder"])
def test_other_splitting_is_another_tokenizer(folder: Path, field: str) -> None:
    before, path = tokenizer_digest(folder), folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: None}))
    assert tokenizer_digest(folder) != before


def test_gaps_between_ids_count(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    token = {**content["added_tokens"][0], "id": 300, "content": "<|extra|>"}
    path.write_text(json.dumps({**content, "added_tokens": [*content["added_tokens"], token]}))
    opened = open_tokenizer(folder)
    assert opened.vocabulary == max(opened.backend.get_vocab().values()) + 1


def test_a_damaged_file_is_one_line(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": []}')
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read") as told:
        tokenizer_digest(folder)
    assert "\n" not in str(told.value)


def test_a_file_that_drops_guards_is_the_same_tokenizer(folder: Path, tmp_path: Path) -> None:
    """An export writes the chat template's rules into its tokenizer.json."""
    (tmp_path / "shipped").mkdir()
    open_tokenizer(folder).backend.save(str(tmp_path / "shipped" / "tokenizer.json"))
    texts = [(one / "tokenizer.json").read_text() for one in (folder, tmp_path / "shipped")]
    assert texts[0] != texts[1]
    assert tokenizer_digest(tmp_path / "shipped") == tokenizer_digest(folder)
