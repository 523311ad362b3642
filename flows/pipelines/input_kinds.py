"""Whether a folder that a user gives is what a stage's role takes."""

from __future__ import annotations

import json
from pathlib import Path

from components.core.errors import ConfigError
from components.core.store.artifact import (
    MANIFEST,
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

FILES: dict[type[Artifact], tuple[str, ...]] = {
    Checkpoint: ("model.json", "model.safetensors"),
    Adapter: ("adapter_config.json", "adapter_model.safetensors"),
    Tokens: ("meta.json", "train.npy", "train.docs.npy"),
    Tokenizer: ("tokenizer.json",),
}
"""What makes a folder such a one, whoever wrote it: a checkpoint may hold a tokenizer too."""
NEEDED: dict[type[Artifact], tuple[str, ...]] = {
    Pages: ("*.warc*",),
    Corpus: ("00000.parquet",),
    Scores: ("00000.parquet",),
    Instructions: ("train.parquet", "heldout.parquet"),
    Preferences: ("answers.parquet", "train.parquet", "heldout.parquet"),
    Report: ("report.json",),
    Export: ("parity.json",),
    Bundle: ("bundle.json",),
}
"""What such a folder holds, too, and others may hold as well: it does not say which kind it is."""
TRANSFORMERS = ("config.json",)


def check_kind(given: str, path: Path, role: str, stage: str, kind: type[Artifact]) -> None:
    """Refuse what a stage would choke on.

    Args:
        given: the words that were typed, for the error.

    Raises:
        ConfigError: says what is given, what is wanted, and where that lies if it is near.
    """
    telling = TRANSFORMERS if stage == import_hf.__name__ else FILES.get(kind, ())
    files = telling or NEEDED.get(kind, ())
    missing = [name for name in files if not _holds(path, name)]
    held = _held(path)
    if not missing and (telling or held in (None, _named(kind))):
        return
    if path.is_file():
        is_what = "is a single file"
    elif held and held != _named(kind):
        is_what = f"is of kind {held}"
    else:
        is_what = f"holds no {', no '.join(missing)}"
    wanted = "a model as transformers saves it" if files == TRANSFORMERS else _named(kind)
    by_files = f" ({', '.join(files)})" if files else ""
    near = _near(path, files)
    if not near and kind in NEEDED:
        near = ", a folder that a run made: `modelmill show` lists them"
    raise ConfigError(
        f"--input {given}: {path} {is_what}; {stage} takes {wanted}{by_files} as {role}{near}"
    )


def _holds(path: Path, name: str) -> bool:
    return path.match(name) if path.is_file() else any(one.is_file() for one in path.glob(name))


def _named(kind: type[Artifact]) -> str:
    """``tokens/1`` is of kind ``tokens``."""
    return kind.format.partition("/")[0]


def _held(path: Path) -> str | None:
    """What a folder says it is, else what its files make it; None where neither tells."""
    try:
        return str(json.loads((path / MANIFEST).read_bytes())["format"]).partition("/")[0]
    except (OSError, ValueError, KeyError, TypeError):
        made = [kind for kind, files in FILES.items() if all(_holds(path, name) for name in files)]
    return _named(made[0]) if made else None


def _near(path: Path, files: tuple[str, ...]) -> str:
    """A folder inside, or the one around, that holds what is missing."""
    inside = sorted(found for found in path.glob("*") if found.is_dir()) if path.is_dir() else []
    for folder in (*inside, path.parent):
        if files and all((folder / name).is_file() for name in files):
            return f": give {folder}"
    return ""
