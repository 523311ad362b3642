"""The bundle holds what passed parity, names what did not, and insists on the required forms."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError, DataError, GateFailed
from components.core.store.artifact import Checkpoint, Export, Tokenizer
from components.core.store.workdir import Workdir
from components.export.bundle import BundleConfig, bundle
from components.export.parity import Parity, write_parity

New = Callable[[], Workdir]


def export(work: Workdir, form: str, passes: bool) -> Export:
    """A form as a stage would leave it, with a file and a volatile one."""
    parity = Parity(
        form=form,
        measured_on="here",
        max_abs_logit_difference=0.5,
        kl_mean=0.25,
        top1_agreement=0.75,
        positions=100,
        decoded_positions=10,
        passes=passes,
        bounds={"kl_max": 0.1, "top1_min": 0.9, "difference_max": 0.1},
    )
    (work.folder / "weights").write_text(form)
    (work.volatile / "engine").write_text("differs between builds")
    write_parity(work.folder, parity)
    return work.seal(Export)


def test_a_form_that_fails_parity_is_left_out_and_named(
    model: Checkpoint, tokenizer: Tokenizer, fresh: New
) -> None:
    forms = {
        "hf": export(fresh(), "hf", True),
        "onnx": export(fresh(), "onnx", True),
        "int8": export(fresh(), "onnx-int8", False),
        "engine": export(fresh(), "tensorrt", True),
    }
    made = bundle(BundleConfig(), model, tokenizer, forms, fresh())
    folder = fresh().artifact_folder(made)
    assert (folder / "hf/weights").read_text() == "hf"
    assert (folder / "volatile/tensorrt/engine").is_file()
    assert not (folder / "hf/artifact.json").exists()
    assert not (folder / "onnx-int8").exists()
    record = json.loads((folder / "bundle.json").read_text())
    assert record["forms"]["onnx-int8"]["passes"] is False
    assert "KL 0.25 (at most 0.1)" in record["left_out"]["onnx-int8"]
    assert record["checkpoint"] == model.digest
    assert record["context"] == 48
    assert made.stats["forms"] == 3
    assert made.stats["left_out"] == 1
    assert made.stats["passes.onnx-int8"] == 0


def test_equal_exports_make_an_equal_bundle_whatever_the_engines_bytes(
    model: Checkpoint, tokenizer: Tokenizer, fresh: New
) -> None:
    forms = {"hf": export(fresh(), "hf", True), "engine": export(fresh(), "tensorrt", True)}
    first = bundle(BundleConfig(), model, tokenizer, forms, fresh())
    again = bundle(BundleConfig(), model, tokenizer, dict(reversed(forms.items())), fresh())
    assert first.digest == again.digest


@pytest.mark.parametrize("given", [{}, {"hf": False}, {"onnx": True}])
def test_without_a_passing_required_form_there_is_no_bundle(
    given: dict[str, bool], model: Checkpoint, tokenizer: Tokenizer, fresh: New
) -> None:
    forms = {name: export(fresh(), name, passes) for name, passes in given.items()}
    with pytest.raises(GateFailed, match="parity: the required form"):
        bundle(BundleConfig(), model, tokenizer, forms, fresh())


def test_an_export_without_a_record_is_refused(
    model: Checkpoint, tokenizer: Tokenizer, fresh: New
) -> None:
    work = fresh()
    (work.folder / "weights").write_text("x")
    with pytest.raises(DataError, match="no parity record"):
        bundle(BundleConfig(), model, tokenizer, {"hf": work.seal(Export)}, fresh())


def test_a_form_that_is_none_is_refused_before_anything_is_exported() -> None:
    with pytest.raises(ConfigError, match=r"required\.0: given 'onxx': must be 'hf', 'onnx', "):
        overlay_config(BundleConfig(), {"required": ["onxx"]})
