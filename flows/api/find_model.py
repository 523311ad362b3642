"""Model by reference: a registered version, an artifact of the store, or a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import ConfigError, MillError
from components.core.settings import Settings
from components.core.store.artifact import MANIFEST_FILE, Bundle, Checkpoint, Export, Tokenizer
from components.core.store.lineage_graph import ArtifactGraph
from components.export.bundle import BUNDLE_FILE
from components.export.hf.base_folder import open_base_tokenizer
from components.export.hf.hf_config import CONFIG_FILE
from components.export.hf.import_hf import cut_vocabulary, read_hf_model
from components.publish.registry.model_registry import BUNDLE_TAG, RegisteredVersion, list_versions
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_files import TOKENIZER_FILE, tokenizer_digest
from components.text.decoder_files import SHAPE_FILE, load_model, read_tokenizer_digest
from flows.api.stored_artifact import StoredArtifact, find_artifact
from serving.serve_model import choose_version

if TYPE_CHECKING:
    from models.decoder import Decoder

Reference = str | PathLike[str] | StoredArtifact
_HF_FORM = "hf"
_DIGEST = re.compile("(sealed/)?[0-9a-f]{6,64}")
_MODEL_KINDS = (Checkpoint, Bundle, Export)


@dataclass(frozen=True)
class ModelFiles:
    """Place of a model's weights and tokenizer, and what is known of its origin."""

    read_module: Callable[[], Decoder]
    read_tokenizer: Callable[[], ChatTokenizer]
    folder: Path
    digest: str | None = None
    """Of its bundle or checkpoint; None for a folder outside of the store."""
    version: RegisteredVersion | None = None


def find_model(settings: Settings, reference: Reference, tokenizer: Reference | None) -> ModelFiles:
    """Find a model's files.

    Args:
        settings: workspace of registry and store.
        reference: NAME@ALIAS, NAME/VERSION, NAME (its champion), a digest, an artifact, a folder.
        tokenizer: folder or artifact of the tokenizer, of a checkpoint whose own is not at hand.

    Raises:
        ConfigError: there is no such model; names what there is.
    """
    _check_reference("reference", reference)
    if tokenizer is not None:
        _check_reference("tokenizer", tokenizer)
    given = None if tokenizer is None else _folder_of(settings, tokenizer)
    if isinstance(reference, str):
        models = {entry.model for entry in list_versions(settings)}
        if reference.endswith("@"):
            raise ConfigError(f"{reference}: no alias after @; {_list_models(settings)}")
        names_model = re.split("[@/]", reference, maxsplit=1)[0] in models
        if names_model or ("@" in reference and not Path(reference).exists()):
            entry = choose_version(settings, reference)
            folder = entry.files_folder(settings)
            return _bundle_files(folder, given, entry.tags.get(BUNDLE_TAG), entry)
        if not Path(reference).exists() and not _DIGEST.fullmatch(reference):
            raise ConfigError(f"{reference}: no model, digest or folder; {_list_models(settings)}")
    folder = _folder_of(settings, reference)
    digest = _digest_of(settings, folder)
    if (folder / BUNDLE_FILE).is_file():
        return _bundle_files(folder, given, digest)
    if (folder / SHAPE_FILE).is_file():
        read = partial(_find_tokenizer, settings, folder, given)
        return ModelFiles(partial(load_model, folder), read, folder, digest)
    if (folder / CONFIG_FILE).is_file():
        return _hf_files(folder, given or folder, folder, digest)
    raise ConfigError(
        f"{reference}: {folder} holds no model: {BUNDLE_FILE} of a bundle, {SHAPE_FILE} of a "
        f"checkpoint or {CONFIG_FILE} as transformers saves one"
    )


def _check_reference(argument: str, given: object) -> None:
    if not isinstance(given, str | PathLike | StoredArtifact) or given == "":
        raise ConfigError(
            f"{argument}: given {given!r}: give NAME@ALIAS, NAME/VERSION, a digest, an artifact or "
            "a folder"
        )
    try:
        if not isinstance(given, StoredArtifact):
            Path(given).exists()
    except OSError as error:  # a name that is too long
        raise ConfigError(f"{argument}: given {str(given)[:80]!r}: {error.strerror}") from error


def _list_models(settings: Settings) -> str:
    entries = list_versions(settings)
    aliases = sorted(f"{entry.model}@{alias}" for entry in entries for alias in entry.aliases)
    versions = [f"{entry.model}/{entry.version}" for entry in entries if not entry.aliases]
    there = ", ".join([*aliases, *versions])
    return f"there is {there}" if there else f"no model is registered in {settings.home} yet"


def _bundle_files(
    folder: Path,
    tokenizer: Path | None,
    digest: str | None = None,
    version: RegisteredVersion | None = None,
) -> ModelFiles:
    hf = folder / _HF_FORM
    if not hf.is_dir():
        raise ConfigError(f"{folder}: the bundle holds no form {_HF_FORM}, which torch would read")
    return _hf_files(hf, tokenizer or folder, folder, digest, version)


def _hf_files(
    hf: Path,
    tokenizer: Path,
    folder: Path,
    digest: str | None = None,
    version: RegisteredVersion | None = None,
) -> ModelFiles:
    def read_module() -> Decoder:
        module, size = read_hf_model(hf), open_base_tokenizer(tokenizer).vocabulary
        if size > module.shape.vocabulary:
            raise ConfigError(
                f"{tokenizer.name}: its tokenizer has {size} tokens, "
                f"the model {module.shape.vocabulary}"
            )
        if size < module.shape.vocabulary:
            cut_vocabulary(module, size)
        return module

    return ModelFiles(read_module, partial(open_base_tokenizer, tokenizer), folder, digest, version)


def _folder_of(settings: Settings, reference: Reference) -> Path:
    if isinstance(reference, StoredArtifact):
        return reference.folder
    path = Path(reference)
    if path.is_dir():
        return path.resolve()
    if isinstance(reference, str) and _DIGEST.fullmatch(reference):
        artifact = find_artifact(settings, reference)
        if not isinstance(artifact.reference, (*_MODEL_KINDS, Tokenizer)):
            raise ConfigError(f"{reference}: is of kind {artifact.kind}, and no model")
        return artifact.folder
    raise ConfigError(f"{path}: no such folder")


def _digest_of(settings: Settings, folder: Path) -> str | None:
    """Digest of a folder of the store; None for any other."""
    if (
        folder.parent != settings.store.resolve() / "sealed"
        or not (folder / MANIFEST_FILE).exists()
    ):
        return None
    return find_artifact(settings, folder.name).digest


def _find_tokenizer(settings: Settings, folder: Path, given: Path | None) -> ChatTokenizer:
    """Tokenizer of a checkpoint: the given one, its own, or the store's with the digest it names.

    Raises:
        ConfigError: it names another than the given one, or one that is not in the store.
    """
    wanted = read_tokenizer_digest(folder)
    if given is None and (folder / TOKENIZER_FILE).is_file():
        given = folder
    if given is not None:
        if wanted and tokenizer_digest(given) != wanted:
            raise ConfigError(f"{given}: is not the tokenizer that {folder} was trained with")
        return open_tokenizer(given)
    for node in ArtifactGraph.read(settings.store).with_format(Tokenizer.format):
        place = settings.store / node.name
        try:
            if wanted and tokenizer_digest(place) == wanted:
                return open_tokenizer(place)
        except MillError:
            continue  # a damaged one is not it; `modelmill doctor` tells of it
    raise ConfigError(
        f"{folder}: its tokenizer is not in {settings.store}: give its folder, "
        "load(…, tokenizer=FOLDER)"
    )
