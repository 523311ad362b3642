"""One model in every exported form that passed parity, each with its record.

hf/  onnx/  onnx-int8/  tensorrt/   a form a folder; one that failed parity is left out
volatile/tensorrt/                  what differs between equal builds: the engine itself
tokenizer.json                      the same for all
bundle.json                         each form's parity record, the shape, the context, the
                                    digests of checkpoint and tokenizer, what was left out and why
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from components.core.errors import GateFailed
from components.core.io.atomic_write import write_atomically
from components.core.stats.report_config import ReportConfig
from components.core.store.artifact import (
    MANIFEST_FILE,
    VOLATILE_FOLDER,
    Bundle,
    Checkpoint,
    Export,
    Tokenizer,
    canonical_json,
)
from components.core.store.workdir import Workdir
from components.export.parity import read_parity
from components.text.chat.tokenizer_files import TOKENIZER_FILE, copy_tokenizer_files
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import read_shape

BUNDLE_FILE = "bundle.json"


FormName = Literal["hf", "onnx", "onnx-int8", "tensorrt"]


class BundleConfig(ReportConfig):
    """Forms that a bundle must hold; its parity records are the report ``parity``."""

    report: ClassVar = "parity"
    figures: ClassVar = ("*.kl_mean", "*.top1_agreement", "forms", "left_out")

    required: tuple[FormName, ...] = Field(
        default=("hf",),
        description="forms without which there is no bundle; the others may fail parity",
    )


def bundle(
    config: BundleConfig,
    model: Checkpoint,
    tokenizer: Tokenizer,
    exports: Mapping[str, Export],
    work: Workdir,
) -> Bundle:
    """Gather the forms that passed parity, with the tokenizer and every form's parity record.

    Args:
        config: forms that must be among them.
        model: the checkpoint that was exported.
        tokenizer: shipped beside the forms.
        exports: the forms, by the name of their stage.
        work: where the bundle is written.

    Raises:
        ConfigError: model, tokenizer and exports are of different tokenizers.
        GateFailed: a required form is missing or failed parity.
        DataError: an export holds no parity record.
    """
    digest = _check_tokenizers(work, model, tokenizer, exports)
    work.progress.start_count(len(exports), "forms")
    records = {}
    for _, export in sorted(exports.items()):
        parity = read_parity(work.artifact_folder(export))
        records[parity.form] = parity
        if parity.passes:
            place_export_files(work.artifact_folder(export), work.folder, parity.form)
        work.progress.advance(note=parity.note)
    for form in config.required:
        if form not in records:
            raise GateFailed(f"parity: the required form {form} was not exported")
        if not records[form].passes:
            raise GateFailed(f"parity: the required form failed: {records[form]}")
    copy_tokenizer_files(work.artifact_folder(tokenizer), work.folder)
    shape = read_shape(work.artifact_folder(model))
    content = {
        "checkpoint": model.digest,
        "tokenizer": digest,
        "context": shape.context,
        "parameters": shape.parameters,
        "shape": asdict(shape),
        "forms": {name: parity.model_dump(mode="json") for name, parity in records.items()},
        "left_out": {name: str(parity) for name, parity in records.items() if not parity.passes},
    }
    write_atomically(work.folder / BUNDLE_FILE, canonical_json(content))
    passing = sum(parity.passes for parity in records.values())
    size = sum(path.stat().st_size for path in work.folder.rglob("*") if path.is_file())
    stats = {"forms": passing, "left_out": len(records) - passing, "bytes": size}
    named = {f"passes.{name}": float(parity.passes) for name, parity in records.items()}
    return work.seal(Bundle, stats={**stats, **named})


def _check_tokenizers(
    work: Workdir, model: Checkpoint, tokenizer: Tokenizer, exports: Mapping[str, Export]
) -> str:
    """Refuse parts of different tokenizers; returns the digest of the one that is shipped."""
    folders = {name: work.artifact_folder(export) for name, export in sorted(exports.items())}
    return check_one_tokenizer(
        "bundle",
        record_of_tokenizer(work.artifact_folder(tokenizer)),
        record_of_model(work.artifact_folder(model)),
        *(
            record_of_tokenizer(folder, f"export {name}")
            for name, folder in folders.items()
            if (folder / TOKENIZER_FILE).is_file()
        ),
    )


def place_export_files(export: Path, folder: Path, form: str) -> None:
    """Place an export's files in ``folder/form``, its volatile ones in ``folder/volatile/form``.

    Args:
        export: folder of the export.
        folder: folder of the bundle.
        form: name of the form.
    """
    for path in sorted(p for p in export.rglob("*") if p.is_file()):
        name = path.relative_to(export)
        if name == Path(MANIFEST_FILE):
            continue
        volatile = name.parts[0] == VOLATILE_FOLDER
        target = Path(VOLATILE_FOLDER, form, *name.parts[1:]) if volatile else Path(form, name)
        link_or_copy(path, folder / target)


def link_or_copy(source: Path, target: Path) -> None:
    """Place a file by a hard link where the file system allows one, else by a copy.

    Sealed files are never written to, so a link is as safe as a copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
