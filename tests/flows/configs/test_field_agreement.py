"""Fields of different stages that must agree are compared before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError
from flows.configs.field_agreement import check_exportable, check_heldout_shares
from flows.configs.presets import PRESETS, nano_run
from tests.flows.conftest import CommandLine

EXPORTS = ("hf", "onnx", "engine")
RESEARCH = ["pretrain.shape.mode=research", "pretrain.shape.extras={logit_cap: 15}"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_agree_with_themselves(preset: str) -> None:
    run = PRESETS[preset]()
    check_heldout_shares(run.tokenizer, run.tokens)
    check_exportable(run.pretrain, EXPORTS)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (
            ["tokenizer.vocabulary=2048"],
            "tokenizer.vocabulary (2048) must be pretrain.shape.vocabulary (1024): set both",
        ),
        (
            ["pretrain.shape.vocabulary=512"],
            "tokenizer.vocabulary (1024) must be pretrain.shape.vocabulary (512): set both",
        ),
        (
            ["select.language.allowed=[en, eng, bm]"],
            "select.language.allowed: no page is found to be in bm, eng; the built-in languages have",
        ),
        (
            ["loss.window=1024"],
            "loss.window (1024) must be within pretrain.shape.context (512): lower it",
        ),
        (
            ["facts.max_new=512"],
            "facts.max_new (512) must be below pretrain.shape.context (512)",
        ),
        (
            ["sft.kinds=[conversation]"],
            "sft.kinds (conversation) needs instructions.files: name files of conversations",
        ),
        (
            ["instructions.kinds=[describe]", "sft.kinds=[describe, module]"],
            "sft.kinds (module) must be among instructions.kinds (describe): make the kind",
        ),
    ],
)
def test_two_fields_that_disagree_are_one_line(given: Sequence[str], fields: str) -> None:
    with pytest.raises(ConfigError) as refused:
        overlay_config(nano_run(), {}, given)
    assert fields in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_autopilot_fits_its_shape_to_any_tokenizer() -> None:
    sets = ["tokenizer.vocabulary=2048", "pretrain.minutes=5", "pretrain.autopilot=[shape]"]
    assert overlay_config(nano_run(), {}, sets).tokenizer.vocabulary == 2048
    with pytest.raises(ConfigError, match=r"pretrain\.shape\.vocabulary \(1024\)"):
        overlay_config(nano_run(), {}, [*sets[:2], "pretrain.autopilot=[batch]"])


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("tokens.heldout_share=0.2", r"tokenizer\.heldout_share \(0\.08\).* \(0\.2\), .*set both"),
        ("tokens.seed=3", r"tokenizer\.seed \(0\) must be tokens\.seed \(3\), .*set both"),
    ],
)
def test_a_vocabulary_is_not_learnt_from_held_out_pages(given: str, fields: str) -> None:
    with pytest.raises(ConfigError, match=fields):
        _check_shares(given)
    _check_shares("tokenizer.heldout_share=0.3")


def _check_shares(given: str) -> None:
    run = overlay_config(nano_run(), {}, [given])
    check_heldout_shares(run.tokenizer, run.tokens)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["pretrain.shape.head_width=24"], "stage onnx would refuse it .*head_width of 24"),
        (RESEARCH, "stage onnx would refuse it .*extras.logit_cap"),
    ],
)
def test_a_shape_that_cannot_be_exported_is_told_before_it_is_trained(
    given: Sequence[str], told: str
) -> None:
    run = overlay_config(nano_run(), {}, given)
    with pytest.raises(ConfigError, match=rf"pretrain\.shape: the {told}.*--until safety") as said:
        check_exportable(run.pretrain, ["pretrain", *EXPORTS])
    assert "\n" not in str(said.value)
    check_exportable(run.pretrain, ["pretrain", "safety"])


@pytest.mark.parametrize(
    "given",
    [
        ["tokenizer.vocabulary=2048"],
        ["tokens.heldout_share=0.2"],
        ["pretrain.shape.head_width=24"],
    ],
)
def test_a_run_ends_before_its_first_page(tmp_path: Path, given: Sequence[str]) -> None:
    modelmill = CommandLine(tmp_path / "home")
    sets = [word for one in given for word in ("--set", one)]
    done = modelmill("run", "nano", "--plain", *sets)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert given[0].partition("=")[0].rpartition(".")[2] in done.stderr
    assert not list((tmp_path / "home" / "store").glob("sealed/*"))


def test_a_language_of_the_examples_may_be_allowed(tmp_path: Path) -> None:
    examples = tmp_path / "bambara.jsonl"
    examples.write_text('{"text": "Hadamaden bɛɛ danmakɛɲɛnen bɛ bange", "language": "bm"}\n')
    given = [f"language_model.examples=[{examples}]", "select.language.allowed=[en, bm]"]
    run = overlay_config(nano_run(), {}, given)
    assert run.select.language.allowed == ("en", "bm")
    with pytest.raises(ConfigError, match="in en; the built-in"):
        overlay_config(nano_run(), {}, [*given, "language_model.builtin=false"])
