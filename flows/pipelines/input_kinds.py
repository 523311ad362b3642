"""Check of a user's input folder against the kind of artifact that a stage's role takes."""

from __future__ import annotations

import json
from pathlib import Path

from components.core.errors import ConfigError
from components.core.store.artifact import (
    MANIFEST_FILE,
    Adapter,
    Artifact,
    Bundle,
    Checkpoint,
    Corpus,
    Export,
    Instructions,
    Pages,
    Preferences,
    Report,
    Scores,
    Tokenizer,
    Tokens,
)
from components.export.hf.import_hf import import_hf
from components.export.hf.import_tokenizer import import_tokenizer

KIND_FILES: dict[type[Artifact], tuple[str, ...]] = {
    Checkpoint: ("model.json", "model.safetensors"),
    Adapter: ("adapter_config.json", "adapter_model.safetensors"),
    Tokens: ("meta.json", "train.npy", "train.docs.npy"),
    Tokenizer: ("tokenizer.json",),
}
"""Files that identify a folder's kind, whoever wrote it: a checkpoint may hold a tokenizer too."""
REQUIRED_FILES: dict[type[Artifact], tuple[str, ...]] = {
    Pages: ("*.warc*",),
    Corpus: ("00000.parquet",),
    Scores: ("00000.parquet",),
    Instructions: ("train.parquet", "heldout.parquet"),
    Preferences: ("answers.parquet", "train.parquet", "heldout.parquet"),
    Report: ("report.json",),
    Export: ("parity.json",),
    Bundle: ("bundle.json",),
}
"""Files that a kind needs, but that do not identify it: other kinds may hold them as well."""
TRANSFORMERS_FILES = ("config.json",)


def check_input_kind(
    argument: str, path: Path, role: str, stage: str, kind: type[Artifact]
) -> None:
    """Refuse an input that is not of the kind that a stage's role takes.

    Args:
        argument: as it was typed, for the error.
        path: file or folder that it names.
        role: role of the stage.
        stage: name of the stage.
        kind: kind of artifact that the role takes.

    Raises:
        ConfigError: names the given and the wanted kind, and a folder nearby that fits.
    """
    if stage == import_tokenizer.__name__ and path.is_dir():
        return  # any folder, of whose files the stage names the one that is missing
    identifying = TRANSFORMERS_FILES if stage == import_hf.__name__ else KIND_FILES.get(kind, ())
    files = identifying or REQUIRED_FILES.get(kind, ())
    missing = [name for name in files if not _holds(path, name)]
    detected = _detect_kind(path)
    if not missing and (identifying or detected in (None, _kind_name(kind))):
        return
    if path.is_file():
        problem = "is a single file"
    elif detected and detected != _kind_name(kind):
        problem = f"is of kind {detected}"
    else:
        problem = f"holds no {', no '.join(missing)}"
    wanted = "a model as transformers saves it" if files == TRANSFORMERS_FILES else _kind_name(kind)
    by_files = f" ({', '.join(files)})" if files else ""
    hint = _nearby_hint(path, files)
    if not hint and kind in REQUIRED_FILES:
        hint = ", a folder that a run made: `modelmill show` lists them"
    raise ConfigError(
        f"--input {argument}: {path} {problem}; {stage} takes {wanted}{by_files} as {role}{hint}"
    )


def _holds(path: Path, name: str) -> bool:
    return path.match(name) if path.is_file() else any(file.is_file() for file in path.glob(name))


def _kind_name(kind: type[Artifact]) -> str:
    """``tokens/1`` is of kind ``tokens``."""
    return kind.format.partition("/")[0]


def _detect_kind(path: Path) -> str | None:
    """Kind of a folder by its manifest, else by its files; None where neither identifies it."""
    try:
        return str(json.loads((path / MANIFEST_FILE).read_bytes())["format"]).partition("/")[0]
    except (OSError, ValueError, KeyError, TypeError):
        kinds = [
            kind for kind, files in KIND_FILES.items() if all(_holds(path, name) for name in files)
        ]
    return _kind_name(kinds[0]) if kinds else None


def _nearby_hint(path: Path, files: tuple[str, ...]) -> str:
    """Hint at a folder inside, or the one around, that holds the missing files."""
    inside = sorted(p for p in path.glob("*") if p.is_dir()) if path.is_dir() else []
    for folder in (*inside, path.parent):
        if files and all((folder / name).is_file() for name in files):
            return f": give {folder}"
    return ""
