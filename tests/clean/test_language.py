"""Languages are found in sentences, whatever the code around them says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.clean.language.language_codes import BUILTIN_LANGUAGES, MEMBERS
from components.clean.language.rule import LanguageRule
from components.clean.language.score import UNKNOWN, LanguageConfig, score_language
from components.clean.language.train_languages import (
    LanguageModelConfig,
    read_detector,
    train_languages,
)
from components.clean.selection_rule import ScoredShard
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.store.artifact import Classifier, Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.language_detector import NO_LANGUAGE, LanguageDetector

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
    assert 1 <= len(found[ENGLISH]["candidates"]) <= 3  # those with next to no chance are left out
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
    corpus = corpus_of([first + second, GERMAN])
    scores = score_language(LanguageConfig(), corpus, learnt, again())
    rows = read_shards(again().artifact_folder(scores)).to_pylist()
    (row,) = (row for row in rows if row["language"] != "de")
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
    rules = LanguageRule(allowed=("en",), min_share=0.5)
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


def test_learnt_languages_may_stand_alone(again: Again, tmp_path: Path) -> None:
    files = (examples(tmp_path),)
    beside = read_detector(
        again().artifact_folder(train_languages(LanguageModelConfig(examples=files), again()))
    )
    config = LanguageModelConfig(examples=files, builtin=False)
    alone = read_detector(again().artifact_folder(train_languages(config, again())))
    assert set(beside.codes) == {*BUILTIN_LANGUAGES, NO_LANGUAGE, "aa", "zz"}
    assert alone.codes == ("aa", "zz")
    assert beside.detect_language(GERMAN) == "de"
    assert alone.detect_language("banuri lobanu") == "aa"


def test_one_language_is_enough_beside_the_builtin_ones(again: Again, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    lines = Path(examples(tmp_path).path).read_text().splitlines()
    path.write_text("\n".join(line for line in lines if '"aa"' in line))
    files = (HashedFile.model_validate(str(path)),)
    learnt = train_languages(LanguageModelConfig(examples=files), again())
    assert learnt.stats["languages"] == 1
    with pytest.raises(DataError, match="without builtin two are needed"):
        train_languages(LanguageModelConfig(examples=files, builtin=False), again())


def test_the_listed_languages_are_those_of_the_detector() -> None:
    codes = set(LanguageDetector().codes)
    assert codes == BUILTIN_LANGUAGES | {NO_LANGUAGE}
    assert {member for members in MEMBERS.values() for member in members} <= codes


SHORT = {
    "en": "This page tells you how to install the program.",
    "de": "Diese Seite beschreibt, wie das Programm installiert wird.",
    "ar": "تشرح هذه الصفحة كيفية تثبيت البرنامج على جهازك.",
    "hi": "यह पृष्ठ बताता है कि प्रोग्राम कैसे स्थापित किया जाता है।",
    "ja": "このページではプログラムをインストールする方法を説明します。",
    "no": "Denne siden forklarer hvordan du installerer programmet.",
}
CAPITALS = "DIESE SEITE BESCHREIBT, WIE DAS PROGRAMM AUF DEM RECHNER INSTALLIERT WIRD."
MENU = "Home\nLogin\nOK"


def kept_pages(texts: list[str], allowed: str, corpus_of: Any, again: Again) -> set[str]:
    """The texts that pass the default rule for one language."""
    corpus = corpus_of(texts)
    scores = score_language(LanguageConfig(), corpus, without(again), again())
    table = read_shards(again().artifact_folder(scores))
    documents = read_shards(again().artifact_folder(corpus))
    shard = ScoredShard(documents, {"language": table})
    passed = [True] * len(texts)
    for finding in LanguageRule(allowed=(allowed,)).check_documents(shard):
        passed = [before and bool(now) for before, now in zip(passed, finding.passed, strict=True)]
    return {t for t, p in zip(documents["text"].to_pylist(), passed, strict=True) if p}


@pytest.mark.parametrize("allowed", sorted(SHORT))
def test_short_pages_are_judged(
    allowed: str, corpus_of: Callable[..., Corpus], again: Again
) -> None:
    kept = kept_pages([*SHORT.values(), CAPITALS, MENU], allowed, corpus_of, again)
    assert kept == {SHORT[allowed], MENU, *([CAPITALS] if allowed == "de" else [])}


def test_a_page_with_next_to_nothing_in_the_language_is_dropped(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    foreign, half = f"{GERMAN}\n" * 9 + ENGLISH[:170], f"{GERMAN}\n{ENGLISH}"
    assert kept_pages([foreign, half], "en", corpus_of, again) == {half}


def test_headings_speak_where_there_is_no_sentence(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    headings = "# Wie das Programm auf dem eigenen Rechner installiert wird\n\n```\nx = 1\n```"
    assert kept_pages([headings], "en", corpus_of, again) == set()
    assert kept_pages([headings], "de", corpus_of, again) == {headings}


def test_languages_of_one_long_line_are_told_apart(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    corpus = corpus_of([f"{GERMAN * 3} {ENGLISH * 3}".replace("\n", " ")])
    scores = score_language(LanguageConfig(), corpus, without(again), again())
    (row,) = read_shards(again().artifact_folder(scores)).to_pylist()
    shares = {share["language"]: share["share"] for share in row["shares"]}
    assert set(shares) == {"de", "en"}
    assert 0.35 < shares["de"] < 0.65


def test_a_macrolanguage_lets_its_members_pass() -> None:
    row = {"language": "arz", "letters": 900, "confidence": 0.9}
    table = pa.Table.from_pylist(
        [
            {
                **row,
                "candidates": [{"language": "arz", "confidence": 0.9}],
                "shares": [{"language": "arz", "share": 1.0}],
            }
        ]
    )
    shard = ScoredShard(table, {"language": table})
    verdicts = {
        code: all(f.passed.all() for f in LanguageRule(allowed=(code,)).check_documents(shard))
        for code in ("ar", "arz", "fa")
    }
    assert verdicts == {"ar": True, "arz": True, "fa": False}
