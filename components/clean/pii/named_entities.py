"""Named entities (people, places) by a spaCy pipeline that the user names.

Presidio (the extra ``names``) maps a pipeline's labels to people and places. Nothing is downloaded:
the pipeline is a folder, or a package that the user installed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import digest_folder
from components.text.pii.find_pii import NAME_KINDS
from components.text.spans import Span

INSTALL_COMMAND = "python -m pip install -e '.[names]'"
MAX_PIECE_CHARACTERS = 50_000
"""Characters that a pipeline is given at once: spaCy refuses more than a million, and takes about
a gigabyte for each 100,000."""
_ENTITIES = dict(zip(("PERSON", "LOCATION"), NAME_KINDS, strict=True))
_MORE_LABELS = {"FAC": "LOCATION"}
"""Airports and bridges: a label of the English pipelines that Presidio does not know."""

EntityFinder = Callable[[str], list[tuple[int, int, str]]]


class NamesConfig(StageConfig):
    """The spaCy pipeline that finds names of people and places; without one none are looked for."""

    model: str | None = Field(
        default=None,
        description="a folder with a spaCy pipeline, or an installed package that is one "
        "(en_core_web_sm); needs the extra `names`",
    )
    digest: str = Field(
        default="", description="the pipeline's digest, so that another one scores again"
    )

    @model_validator(mode="before")
    @classmethod
    def _looked_at(cls, values: Any) -> Any:
        """Check the pipeline when the config is read, hours before the scorer would."""
        if not isinstance(values, dict) or not values.get("model") or values.get("digest"):
            return values
        missing = describe_missing_extra()
        if missing:
            raise ValueError(missing)
        folder = find_pipeline_folder(str(values["model"]))
        model = str(folder) if Path(str(values["model"])).expanduser().is_dir() else values["model"]
        return {**values, "model": model, "digest": digest_pipeline(folder)}


def describe_missing_extra() -> str:
    """Describe what to install before names can be found; empty where nothing is missing."""
    for package in ("presidio_analyzer", "spacy"):
        if importlib.util.find_spec(package) is None:
            return f"names need {package}, which is not installed: {INSTALL_COMMAND}"
    return ""


def find_pipeline_folder(model: str) -> Path:
    """Folder of the pipeline, with its ``meta.json``.

    Raises:
        ValueError: there is none, or it finds no names; says what to do.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        spec = importlib.util.find_spec(model) if model.isidentifier() else None
        if spec is None or spec.origin is None:
            raise ValueError(
                f"{model} is neither a folder nor an installed package; give the folder of a "
                "spaCy pipeline, or install one: python -m spacy download en_core_web_sm"
            )
        folder = Path(spec.origin).parent
    elif not (folder / "config.cfg").is_file():
        raise ValueError(f"{model} is no spaCy pipeline: it holds no config.cfg")
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{model} is no spaCy pipeline: it holds no meta.json")
    finders = {"ner", "entity_ruler", "span_ruler", "beam_ner"}
    if not finders & set(_read_meta(folder).get("pipeline", ())):
        raise ValueError(f"{model} finds no names: its pipeline has no `ner` and no `entity_ruler`")
    return folder.resolve()


def digest_pipeline(folder: Path) -> str:
    """Digest of a pipeline's files; of a package, which is not edited, its name and version."""
    meta = _read_meta(folder)
    is_package = (folder / "__init__.py").is_file()
    return f"{meta['name']}-{meta['version']}" if is_package else digest_folder(folder)


def check_pipeline(config: NamesConfig) -> None:
    """Check that the pipeline can be loaded and is the one that the run was planned with.

    Raises:
        ConfigError: the extra or the pipeline is missing; says what to install.
        DataError: the pipeline changed.
    """
    if config.model is None:
        return
    missing = describe_missing_extra()
    if missing:
        raise ConfigError(f"pii.names.model: {missing}")
    try:
        folder = find_pipeline_folder(config.model)
    except ValueError as error:
        raise ConfigError(f"pii.names.model: {error}") from error
    if config.digest and digest_pipeline(folder) != config.digest:
        raise DataError(f"pii.names: {Path(config.model).name} changed; run again")


def find_names(text: str, model: str) -> Iterator[Span]:
    """Spans of kind ``person`` and ``place``, sorted, none overlapping another."""
    find, end = _load_finder(model), 0
    for start, piece in split_pieces(text):
        for first, last, entity in sorted(find(piece)):
            if start + first >= end:  # an entity ruler may give two that overlap
                end = start + last
                yield Span(start + first, end, _ENTITIES[entity])


def split_pieces(text: str) -> Iterator[tuple[int, str]]:
    """(offset, piece): cut after a line, else after a word, else anywhere."""
    start = 0
    while start < len(text):
        end = min(start + MAX_PIECE_CHARACTERS, len(text))
        if end < len(text):
            cuts = (text.rfind(sign, start, end) for sign in ("\n", " "))
            end = next((cut + 1 for cut in cuts if cut > start), end)
        yield start, text[start:end]
        start = end


@lru_cache(maxsize=1)
def _load_finder(model: str) -> EntityFinder:
    """Presidio over the pipeline, loaded once a worker.

    The pipeline is loaded here and on the CPU: Presidio would download one that it does not find,
    and its own recognizers know what ``components/text/pii/find_pii.py`` finds already.
    """
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    nlp = spacy.load(model)
    labels = NerModelConfiguration()
    labels.model_to_presidio_entity_mapping |= _MORE_LABELS
    labels.labels_to_ignore = [
        label
        for label in nlp.pipe_labels.get("ner", [])
        if label not in labels.model_to_presidio_entity_mapping
    ]
    engine = SpacyNlpEngine([{"lang_code": nlp.lang, "model_name": model}], labels)
    engine.nlp = {nlp.lang: nlp}
    recognizer = SpacyRecognizer(nlp.lang, list(_ENTITIES))
    registry = RecognizerRegistry([recognizer], supported_languages=[nlp.lang])
    analyzer = AnalyzerEngine(registry, engine, supported_languages=[nlp.lang])

    def find_entities(text: str) -> list[tuple[int, int, str]]:
        results = analyzer.analyze(text, nlp.lang, entities=list(_ENTITIES))
        return [(result.start, result.end, result.entity_type) for result in results]

    return find_entities


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder.name}/meta.json cannot be read: {error}") from error
    if not isinstance(meta, dict) or not {"name", "version"} <= set(meta):
        raise ValueError(f"{folder.name}/meta.json is not that of a spaCy pipeline")
    return meta
