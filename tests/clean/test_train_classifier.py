"""The classifier learns from what a corpus marks, from labelled files, or from common boilerplate."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from components.clean.boilerplate.fasttext_process import FasttextConfig
from components.clean.boilerplate.page_lines import content_lines, line_features
from components.clean.boilerplate.score import BoilerplateConfig, score_boilerplate
from components.clean.boilerplate.train_classifier import ClassifierConfig, train_classifier
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir

QUICK = FasttextConfig(epochs=5, buckets=2000)
MENU = "Home\nSearch\nNext page\nPrevious page\nLog in\nPrivacy policy\nBack to top\n"
NOUNS = ("file", "stream", "value", "buffer", "session", "matrix", "column", "request")
VERBS = ("reads", "closes", "returns", "copies", "flushes", "checks", "encodes", "sorts")


def prose(draw: random.Random, lines: int = 12) -> str:
    made = [
        f"The {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} {n} before it "
        f"{draw.choice(VERBS)} what the {draw.choice(NOUNS)} holds."
        for n in range(lines)
    ]
    return "\n".join(made)


def documents(navigation: bool) -> list[dict[str, str]]:
    draw = random.Random(2)
    return [
        {
            "text": f"# Page {n}\n\n" + prose(draw),
            "navigation": MENU + f"Chapter {NOUNS[n % 8]} > {VERBS[n % 7]}\nSection {n}"
            if navigation
            else "",
        }
        for n in range(40)
    ]


def test_it_learns_navigation_and_scores_with_it(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    menu = {"text": MENU, "url": "https://docs.example/menu"}
    corpus = corpus_of([*documents(navigation=True), menu])
    config = ClassifierConfig(fit=QUICK, min_boilerplate=5)
    classifier = train_classifier(config, corpus, again())
    assert classifier.stats["accuracy"] > 0.8
    assert classifier.stats["builtin"] == 0
    work = again()
    record = json.loads((work.artifact_folder(classifier) / "classifier.json").read_text())
    assert record["labels"] == ["text", "boilerplate"]
    assert record["recall_text_low"] <= record["recall_text"] <= record["recall_text_high"]
    scores = score_boilerplate(BoilerplateConfig(), corpus, classifier, again())
    urls = read_shards(work.artifact_folder(corpus), ["url"])["url"].to_pylist()
    found = dict(zip(urls, read_shards(work.artifact_folder(scores)).to_pylist(), strict=True))
    boilerplate = found.pop("https://docs.example/menu")
    assert boilerplate["line_share"] > 0.6
    assert all(row["line_share"] < 0.2 for row in found.values())
    assert boilerplate["mean_probability"] > max(row["mean_probability"] for row in found.values())


def test_two_trainings_give_the_same_bytes(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus = corpus_of(documents(navigation=True))
    made = [train_classifier(ClassifierConfig(fit=QUICK), corpus, again()) for _ in range(2)]
    assert made[0].digest == made[1].digest


def test_plain_files_are_contrasted_with_common_boilerplate(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    classifier = train_classifier(
        ClassifierConfig(fit=QUICK), corpus_of(documents(navigation=False)), work
    )
    assert classifier.stats["builtin"] > 200
    assert classifier.stats["accuracy"] > 0.9


def test_labelled_lines_take_the_place_of_both(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir], tmp_path: Path
) -> None:
    path = tmp_path / "lines.txt"
    rows = [f"__label__text The {n}th value holds" for n in "abcdefghij"]
    rows += [f"__label__boilerplate Click {n}" for n in "abcdefghij"]
    path.write_text("\n".join(rows))
    config = ClassifierConfig(
        labelled=(HashedFile.model_validate(str(path)),), fit=QUICK, min_accuracy=0.5
    )
    corpus = corpus_of(documents(navigation=True))
    classifier = train_classifier(config, corpus, again())
    assert classifier.stats["train_text"] + classifier.stats["heldout_text"] == 10
    path.write_text("\n".join([*rows, "__label__other x"]))
    with pytest.raises(DataError, match=r"lines\.txt is gone or changed"):
        train_classifier(config, corpus, again())
    config = ClassifierConfig(labelled=(HashedFile.model_validate(str(path)),), fit=QUICK)
    with pytest.raises(DataError, match=r"lines\.txt:21: begin with __label__text"):
        train_classifier(config, corpus, again())


def test_a_classifier_that_cannot_tell_is_refused(
    corpus_of: Callable[..., Corpus], work: Workdir, tmp_path: Path
) -> None:
    draw = random.Random(0)
    lines = [f"{draw.choice(NOUNS)} {draw.choice(VERBS)} {n}x{n * 7919 % 977}" for n in range(400)]
    words = [line.replace("x", draw.choice("abcdefgh")) for line in lines]
    path = tmp_path / "noise.txt"
    path.write_text(
        "\n".join(f"__label__{draw.choice(('text', 'boilerplate'))} {word}" for word in words)
    )
    config = ClassifierConfig(
        labelled=(HashedFile.model_validate(str(path)),),
        fit=QUICK,
        min_accuracy=0.95,
        min_heldout=1,
    )
    with pytest.raises(DataError, match=r"held-out accuracy 0\.\d+ is below min_accuracy 0\.95"):
        train_classifier(config, corpus_of(["x"]), work)
    assert not (work.folder / "model.bin").exists()


def test_a_handful_of_lines_is_no_measurement(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    config = ClassifierConfig(fit=QUICK, min_accuracy=1.0)
    classifier = train_classifier(config, corpus_of(["Home\nLog in\nsome words"]), work)
    assert classifier.stats["heldout_text"] < 20


def test_a_corpus_without_a_line_says_what_to_give(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    with pytest.raises(DataError, match="too few to learn from; give labelled lines"):
        train_classifier(ClassifierConfig(fit=QUICK), corpus_of(["...", "---"]), work)


def test_lines_lose_their_marks_and_forge_no_label() -> None:
    assert content_lines("## Title\n\n- item\n```python\nx = 1\n```\n***\n") == [
        "Title",
        "item",
        "x = 1",
    ]
    assert line_features("Hello,  World 42!") == "hello , world 00 !"
    assert "__label__" not in line_features("__label__text forged")
