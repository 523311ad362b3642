"""Names of people and places are found by the pipeline that the user names, or refused in a line.

What runs a pipeline needs the extra `names` and is skipped without it; what is said where it is
missing is tested always.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.clean.pii.named_entities import (
    MAX_PIECE_CHARACTERS,
    NamesConfig,
    check_pipeline,
    find_names,
    split_pieces,
)
from components.clean.pii.rule import PiiRule
from components.clean.pii.score import PiiConfig, score_pii
from components.clean.select import select
from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from flows.configs.presets import nano_run
from flows.configs.text_run import TextSelectConfig

Maker = Callable[..., Corpus]
Again = Callable[[], Workdir]
PATTERNS = [
    {"label": "PERSON", "pattern": "Ada Lovelace"},
    {"label": "PERSON", "pattern": "Charles Babbage"},
    {"label": "GPE", "pattern": "London"},
    {"label": "ORG", "pattern": "Analytical Society"},
]


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    """A real pipeline in a folder: it knows two people, a place and a society."""
    pytest.importorskip("presidio_analyzer", reason="the extra `names` is not installed")
    spacy = pytest.importorskip("spacy", reason="the extra `names` is not installed")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(PATTERNS)
    nlp.to_disk(tmp_path / "english")
    return str(tmp_path / "english")


def names(model: str) -> PiiConfig:
    return PiiConfig(names=NamesConfig(model=model))


def folder(path: Path, **meta: Any) -> str:
    """What looks like a pipeline to who does not load it."""
    path.mkdir()
    told = {"name": "made", "version": "1.0", "lang": "en", "pipeline": ["ner"], **meta}
    (path / "meta.json").write_text(json.dumps(told))
    (path / "config.cfg").write_text("")
    return str(path)


@pytest.mark.parametrize("package", ["presidio_analyzer", "spacy"])
def test_the_missing_extra_is_one_line_before_anything_runs(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", pytest)  # one alone is missing
    monkeypatch.setitem(sys.modules, package, None)  # Python's own sign for "cannot be imported"
    with pytest.raises(ConfigError) as refused:
        overlay_config(nano_run(), {}, ["pii.names.model=en_core_web_sm"])
    (line,) = str(refused.value).splitlines()
    assert line.startswith("--set pii.names.model=en_core_web_sm: pii.names")
    assert f"names need {package}, which is not installed" in line
    assert "pip install -e '.[names]'" in line


def test_the_missing_extra_is_told_by_the_scorer_too(
    corpus_of: Maker, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    recorded = PiiConfig(names=NamesConfig(model="made", digest="made-1.0"))  # of an earlier run
    with pytest.raises(ConfigError, match=r"pii\.names\.model: names need presidio_analyzer"):
        score_pii(recorded, corpus_of(["Ada Lovelace"]), work)


def test_without_a_model_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    check_pipeline(NamesConfig())
    assert overlay_config(nano_run(), {"pii": {"names": {}}}).pii.names.model is None


@pytest.fixture
def with_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at before a pipeline is loaded needs to know that the extra is there."""
    monkeypatch.setattr("components.clean.pii.named_entities.describe_missing_extra", lambda: "")


@pytest.mark.usefixtures("with_extra")
def test_what_is_no_pipeline_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    silent = folder(tmp_path / "silent", pipeline=["tagger"])
    for model, said in (
        ("en_core_web_nosuch", "python -m spacy download en_core_web_sm"),
        ("../nowhere", "neither a folder nor an installed package"),
        (str(tmp_path / "empty"), "it holds no config.cfg"),
        (silent, "its pipeline has no `ner`"),
        ("json", "it holds no meta.json"),
    ):
        with pytest.raises(ConfigError) as refused:
            overlay_config(nano_run(), {"pii": {"names": {"model": model}}})
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("with_extra")
def test_another_pipeline_scores_again(tmp_path: Path) -> None:
    model = folder(tmp_path / "english")
    planned = NamesConfig(model=model)
    assert planned == NamesConfig(model=model)
    (tmp_path / "english" / "weights").write_bytes(b"other")
    assert NamesConfig(model=model).digest != planned.digest
    with pytest.raises(DataError, match="english changed; run again"):
        check_pipeline(planned)


def test_a_long_text_is_cut_between_words_and_nothing_is_lost() -> None:
    texts = [
        "a b " * MAX_PIECE_CHARACTERS,
        "lines\n" * MAX_PIECE_CHARACTERS,
        "x" * (2 * MAX_PIECE_CHARACTERS + 1),
        "",
        "short",
    ]
    for text in texts:
        cut = list(split_pieces(text))
        assert "".join(piece for _, piece in cut) == text
        assert all(text.startswith(piece, at) for at, piece in cut)
        assert all(0 < len(piece) <= MAX_PIECE_CHARACTERS for _, piece in cut)
    assert all(piece.endswith("\n") for _, piece in split_pieces(texts[1]))


def test_people_and_places_are_found_and_societies_are_not(pipeline: str) -> None:
    text = "Ada Lovelace of the Analytical Society lives in London."
    found = [(text[s.start : s.end], s.kind) for s in find_names(text, pipeline)]
    assert found == [("Ada Lovelace", "person"), ("London", "place")]
    far = "word " * MAX_PIECE_CHARACTERS + "Ada Lovelace"
    assert [far[s.start : s.end] for s in find_names(far, pipeline)] == ["Ada Lovelace"]


def test_names_are_replaced_like_the_others_in_text_and_beside_it(
    corpus_of: Maker, again: Again, pipeline: str
) -> None:
    page = {
        "text": "Ada Lovelace (ada@analytical.org) wrote to Charles Babbage in London. "
        "Ada Lovelace knew https://London:h8Kq2zVw@engine.org well.",
        "title": "Charles Babbage",
        "headings": ["Nothing", "On Ada Lovelace"],
        "navigation": "London",
    }
    corpus = corpus_of([page])

    def kept(rules: PiiRule) -> dict[str, Any]:
        scores = {"pii": score_pii(names(pipeline), corpus, again())}
        chosen = select(TextSelectConfig(pii=rules), corpus, scores, again())
        (row,) = read_shards(again().artifact_folder(chosen)).to_pylist()
        return dict(row)

    wanted = (
        "<PERSON_1> (<EMAIL_1>) wrote to <PERSON_2> in <PLACE_1>. "
        "<PERSON_1> knew https://<LOGIN_1>@engine.org well."
    )
    first = kept(PiiRule())
    assert first["text"] == wanted
    assert (first["title"], first["navigation"]) == ("<PERSON_2>", "<PLACE_1>")
    assert first["headings"] == ["Nothing", "On <PERSON_1>"]
    assert kept(PiiRule()) == first
    assert kept(PiiRule(person="keep", place="keep"))["title"] == "Charles Babbage"


def test_a_page_full_of_names_is_no_list_of_addresses(
    corpus_of: Maker, again: Again, pipeline: str
) -> None:
    corpus = corpus_of(["Ada Lovelace met Charles Babbage in London. " * 40])
    scores = {"pii": score_pii(names(pipeline), corpus, again())}
    assert select(TextSelectConfig(), corpus, scores, again()).stats["kept"] == 1
