"""Languages are found in sentences, whatever the code around them says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.clean.language.rule import LanguageRule
from components.clean.language.score import UNKNOWN, LanguageConfig, score_language
from components.clean.language.train_languages import LanguageModelConfig, train_languages
from components.clean.selection_rule import ScoredShard
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.store.artifact import Classifier, Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir

Again = Callable[[], Workdir]
ENGLISH = (
    "This function reads the whole file and returns its content as one string. When the file "
    "does not exist, an error is raised that names the path which was given by the caller. "
) * 3
GERMAN = (
    "Diese Funktion liest die ganze Datei und gibt ihren Inhalt als eine Zeichenkette zurück. "
    "Wenn es die Datei nicht gibt, wird ein Fehler ausgelöst, der den Pfad nennt. "
) * 3
FRENCH = (
    "Cette fonction lit le fichier entier et renvoie son contenu dans une seule chaîne. "
    "Quand le fichier n'existe pas, une erreur est levée avec le chemin qui a été donné. "
) * 3
CODE = (
    "```python\n" + "def read_the_whole_file_and_return(path): return open(path)\n" * 40 + "```\n"
)


def without(again: Again) -> Classifier:
    """No model of the user's: the built-in detector."""
    return train_languages(LanguageModelConfig(), again())


def test_languages_are_told_apart(
    corpus_of: Callable[..., Corpus], work: Workdir, again: Again
) -> None:
    corpus = corpus_of([ENGLISH, GERMAN, FRENCH, CODE + GERMAN, "```\nx = 1\n```"])
    scores = score_language(LanguageConfig(candidates=3), corpus, without(again), work)
    texts = {
        row["id"]: row["text"] for row in read_shards(work.artifact_folder(corpus)).to_pylist()
    }
    found = {texts[row["id"]]: row for row in read_shards(work.artifact_folder(scores)).to_pylist()}
    assert [found[text]["language"] for text in (ENGLISH, GERMAN, FRENCH)] == ["en", "de", "fr"]
    assert found[CODE + GERMAN]["language"] == "de"
    assert found[CODE + GERMAN]["letters"] == found[GERMAN]["letters"]
    empty = found["```\nx = 1\n```"]
    assert (empty["language"], empty["confidence"], empty["letters"]) == (UNKNOWN, 0.0, 0)
    assert len(found[ENGLISH]["candidates"]) == 3
    ranked = [candidate["confidence"] for candidate in found[ENGLISH]["candidates"]]
    assert ranked == sorted(ranked, reverse=True)
    assert scores.stats["unknown"] == 1


def test_ids_and_bytes_are_those_of_the_corpus(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus = corpus_of([f"{ENGLISH} {n}" for n in range(9)], shards=3)
    made = [score_language(LanguageConfig(), corpus, without(again), again()) for _ in range(2)]
    work = again()
    assert made[0].digest == made[1].digest
    expected = read_shards(work.artifact_folder(corpus), ["id"])
    assert read_shards(work.artifact_folder(made[0]), ["id"]).equals(expected)


def examples(folder: Path, lines: int = 30) -> HashedFile:
    """Two made-up languages of syllables, one for each of two hands."""
    draw = random.Random(0)
    rows: list[Any] = ["broken", {"text": " ", "language": "aa"}]
    for code, syllables in (
        ("aa", ("ba", "nu", "ri", "lo")),
        ("zz", ("kesh", "vorn", "tul", "gim")),
    ):
        for _ in range(lines):
            words = ["".join(draw.choices(syllables, k=3)) for _ in range(8)]
            rows.append({"text": " ".join(words), "language": code})
    path = folder / "languages.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return HashedFile.model_validate(str(path))


def test_a_model_learns_what_the_user_names(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = LanguageModelConfig(examples=(examples(tmp_path),))
    learnt = train_languages(config, again())
    assert (learnt.stats["macro_f1"], learnt.stats["languages"]) == (1.0, 2)
    assert train_languages(config, again()).digest == learnt.digest
    first, second = "banuri lobanu riloba\n" * 60, "keshvorntul gimkesh tulvorn\n" * 30
    corpus = corpus_of([first + second])
    scores = score_language(LanguageConfig(), corpus, learnt, again())
    (row,) = read_shards(again().artifact_folder(scores)).to_pylist()
    assert row["language"] == "aa"
    shares = {share["language"]: share["share"] for share in row["shares"]}
    assert shares["aa"] == pytest.approx(1080 / 1770, abs=0.15)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_a_page_of_several_languages_tells_their_shares(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    corpus = corpus_of([f"{GERMAN}\n{GERMAN}\n{ENGLISH}"])
    scores = score_language(LanguageConfig(), corpus, without(again), again())
    table = read_shards(again().artifact_folder(scores))
    (row,) = table.to_pylist()
    shares = {share["language"]: share["share"] for share in row["shares"]}
    assert list(shares) == ["de", "en"]
    assert 0.5 < shares["de"] < 0.8
    rules = LanguageRule(allowed=("en",), max_distance=1, min_share=0.5)
    shard = ScoredShard(table, {"language": table})
    assert [finding.passed.tolist() for finding in rules.check_documents(shard)] == [
        [True],
        [False],
    ]
    findings = rules.model_copy(update={"min_share": 0.2}).check_documents(shard)
    assert [finding.passed.tolist() for finding in findings] == [[True], [True]]


def test_too_few_lines_are_an_error(again: Again, tmp_path: Path) -> None:
    config = LanguageModelConfig(examples=(examples(tmp_path, lines=7),))
    with pytest.raises(DataError, match=r"aa has 7 text\(s\), min_lines is 10"):
        train_languages(config, again())
