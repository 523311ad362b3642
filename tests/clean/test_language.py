"""Languages are found in sentences, whatever the code around them says."""

from __future__ import annotations

from collections.abc import Callable

from components.clean.language import UNKNOWN, LanguageConfig, score_language
from components.core.artifact import Corpus
from components.core.shards import read_all
from components.core.workdir import Workdir

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


def test_languages_are_told_apart(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    corpus = corpus_of([ENGLISH, GERMAN, FRENCH, CODE + GERMAN, "```\nx = 1\n```"])
    scores = score_language(LanguageConfig(candidates=3), corpus, work)
    texts = {row["id"]: row["text"] for row in read_all(work.path(corpus)).to_pylist()}
    found = {texts[row["id"]]: row for row in read_all(work.path(scores)).to_pylist()}
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
    made = [score_language(LanguageConfig(), corpus, again()) for _ in range(2)]
    work = again()
    assert made[0].digest == made[1].digest
    expected = read_all(work.path(corpus), ["id"])
    assert read_all(work.path(made[0]), ["id"]).equals(expected)
