"""Parity of an exported form with the torch model: logits compared on held-out windows.

The reference is the float32 torch model, run on every window whole and alone, without a cache. The
form is fed ragged batches: the fronts of the windows as one right-padded prompt, then the rest a
token at a time through its KV cache. So a wrong rotary layout, mask, position or cache shows. An
argmax alone would miss it: a wrong rotary permutation moves KL from 1e-15 to 1e-6.

The tokenizer that is shipped with the form is compared too: it must encode the held-out pages as
the tokens hold them.

KL is KL(reference || form) in nats, mean over positions, computed in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, error_line
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.tokenizer_files import TOKENIZER_FILE, copy_tokenizer_files
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import HELDOUT_TEXTS, open_split, read_heldout_texts

if TYPE_CHECKING:
    from models.decoder import Decoder

PARITY_FILE = "parity.json"
TOKENIZER_PAGES = 100
"""Enough to show any other merge or splitting rule, in less than a second."""
Ids = NDArray[np.int64]
Logits = NDArray[Any]
Form = Callable[[Sequence[Ids], int], Sequence[Logits]]
"""(rows, steps) -> logits [len(row), v] of every row: the last ``steps`` tokens of each row are
fed one at a time, all before them as one ragged prompt."""


class ParityConfig(StageConfig):
    """Positions that are compared, and the bounds that a form must keep."""

    positions: int = Field(default=1024, ge=16, description="fewest positions compared")
    batch: int = Field(default=4, ge=1, le=256, description="rows of a ragged batch")
    steps: int = Field(
        default=8, ge=1, le=512, description="positions of a batch decoded one at a time"
    )
    kl_max: float = Field(default=1e-9, ge=0, description="largest mean KL divergence, nats")
    top1_min: float = Field(default=0.999, ge=0, le=1, description="least share of equal argmax")
    difference_max: float = Field(default=1e-2, ge=0, description="largest difference of any logit")


class Parity(BaseModel):
    """Parity record of a form: figures, bounds, verdict. None stands for a figure not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: str
    reference: str = "torch, float32, whole windows"
    measured_on: str
    max_abs_logit_difference: float | None
    kl_mean: float | None
    top1_agreement: float
    positions: int
    decoded_positions: int = Field(
        description="positions of these that are fed one at a time through the cache"
    )
    passes: bool
    bounds: dict[str, float]
    tokenizer_pages: int = Field(
        default=0, description="held-out pages that the shipped tokenizer encodes as it should"
    )

    @property
    def stats(self) -> dict[str, float]:
        """Figures for an artifact's ``stats``."""
        distances = {
            "kl_mean": self.kl_mean,
            "max_abs_logit_difference": self.max_abs_logit_difference,
        }
        figures = {"passes": float(self.passes), "top1_agreement": self.top1_agreement}
        return figures | {name: value for name, value in distances.items() if value is not None}

    @property
    def note(self) -> str:
        """Short result for a progress line."""
        return "not finite" if self.kl_mean is None else f"KL {self.kl_mean:.1e}"

    def __str__(self) -> str:
        if self.kl_mean is None:
            return f"{self.form}: logits are not finite"
        return (
            f"{self.form}: KL {self.kl_mean:.2g} (at most {self.bounds['kl_max']:g}), top-1 "
            f"{self.top1_agreement:.4f} (at least {self.bounds['top1_min']:g}), largest difference "
            f"{self.max_abs_logit_difference:.2g} (at most {self.bounds['difference_max']:g})"
        )


@dataclass(frozen=True)
class ParityCase:
    """One ragged batch with the torch model's logits for each of its rows."""

    rows: list[Ids]
    steps: int
    expected: list[Logits]


def ship_tokenizer(stage: str, model: Path, tokens: Path, tokenizer: Path, target: Path) -> int:
    """Write ``tokenizer.json`` beside an exported model, with the chat template's rules, and try
    it on held-out pages.

    Args:
        stage: name of the stage, which begins each message.
        model: the checkpoint that is exported.
        tokens: tokens it was trained on.
        tokenizer: folder of the file to copy.
        target: where the copy goes.

    Returns:
        How many pages the copy encoded as the tokens hold them: at most ``TOKENIZER_PAGES``, and
        0 where the tokens came without their texts.

    Raises:
        ConfigError: these are of different tokenizers.
        DataError: one of them is damaged.
    """
    trained, shipped = record_of_tokens(tokens), record_of_tokenizer(tokenizer)
    check_one_tokenizer(stage, record_of_model(model), trained, shipped)
    copy_tokenizer_files(tokenizer, target)
    words = open_tokenizer(target)
    if words.writes_guards:  # then whoever renders the template elsewhere has to drop them
        words.backend.save(str(target / TOKENIZER_FILE))
    if not (tokens / HELDOUT_TEXTS).is_file():
        return 0
    copy, split = open_tokenizer(target), open_split(tokens, "heldout")
    pages = list(zip(*read_heldout_texts(tokens, split), strict=True))[:TOKENIZER_PAGES]
    for index, (page, text) in enumerate(pages):
        if [*copy.encode_text(text), split.eos] != split.document(index).tolist():
            raise ConfigError(
                f"{stage}: {shipped} encodes the held-out page {page} otherwise than {trained} "
                "hold it: give the tokenizer that the tokens were made with"
            )
    return len(pages)


def parity_cases(model: Decoder, tokens: Path, config: ParityConfig) -> list[ParityCase]:
    """Held-out windows with their reference logits: one of a whole context, then ragged batches.

    Args:
        model: the float32 torch model.
        tokens: folder of ``Tokens``.
        config: positions, rows of a batch and decoded steps.

    Raises:
        DataError: no held-out tokens.
    """
    import torch

    split = open_split(tokens, "heldout")
    if not len(split.tokens):
        raise DataError(f"{tokens.name}: no held-out tokens to measure parity on")
    cases: list[ParityCase] = []
    for lengths, steps in _batch_plan(config, model.shape.context):
        start = sum(len(row) for case in cases for row in case.rows)
        rows = _windows(split.tokens, start, lengths)
        with torch.inference_mode():
            expected = [model(torch.from_numpy(row)[None])[0].numpy() for row in rows]
        cases.append(ParityCase(rows, steps, expected))
    return cases


def _batch_plan(config: ParityConfig, context: int) -> list[tuple[list[int], int]]:
    """Plan (lengths of the rows, steps) of each batch, until it has enough positions."""
    steps = min(config.steps, context - 1)
    plan = [([context], 0)]
    positions = context
    while positions < config.positions or len(plan) < 2:
        # From one prompt token up to a full context, so that the last step is the last place.
        spread = np.linspace(steps + 1, context, config.batch).round().astype(int)
        lengths = np.roll(spread, len(plan)).tolist()
        plan.append((lengths, steps))
        positions += sum(lengths)
    return plan


def _windows(tokens: NDArray[np.integer], start: int, lengths: Sequence[int]) -> list[Ids]:
    """Consecutive windows from ``start`` on, continued at the split's beginning from its end."""
    rows = []
    for length in lengths:
        places = np.arange(start, start + length) % len(tokens)
        rows.append(np.asarray(tokens[places], dtype=np.int64))
        start += length
    return rows


def measure_parity(
    form: Form,
    cases: Sequence[ParityCase],
    config: ParityConfig,
    *,
    name: str,
    measured_on: str,
    tokenizer_pages: int = 0,
) -> Parity:
    """Compare a form with the reference logits of ``cases``.

    Args:
        form: runs the exported model.
        cases: inputs with the expected logits.
        config: bounds.
        name: name of the form.
        measured_on: runtime and device that compute it.
        tokenizer_pages: result of ``ship_tokenizer``; 0 for a form without a tokenizer.
    """
    kl, same, largest = [], [], []
    for case in cases:
        for expected, actual in zip(case.expected, form(case.rows, case.steps), strict=True):
            if actual.shape != expected.shape:
                raise AssertionError(f"{name}: logits {actual.shape}, expected {expected.shape}")
            kl.append(_kl_divergence(expected, actual))
            same.append(expected.argmax(-1) == actual.argmax(-1))
            largest.append(np.abs(expected - actual).max())
    kl_mean = float(np.concatenate(kl).mean())
    top1 = float(np.concatenate(same).mean())
    difference = float(np.max(largest))
    passes = (
        kl_mean <= config.kl_max and top1 >= config.top1_min and difference <= config.difference_max
    )  # a NaN is never within a bound
    return Parity(
        form=name,
        measured_on=measured_on,
        max_abs_logit_difference=_finite_or_none(difference),
        kl_mean=_finite_or_none(kl_mean),
        top1_agreement=float(f"{top1:.6g}"),
        positions=sum(map(len, same)),
        decoded_positions=sum(case.steps * len(case.rows) for case in cases),
        passes=passes,
        bounds=config.model_dump(include={"kl_max", "top1_min", "difference_max"}),
        tokenizer_pages=tokenizer_pages,
    )


def _kl_divergence(expected: Logits, actual: Logits) -> NDArray[np.float64]:
    """KL(softmax(expected) || softmax(found)) at each position."""
    ours, theirs = _log_softmax(expected), _log_softmax(actual)
    divergence: NDArray[np.float64] = (np.exp(ours) * (ours - theirs)).sum(-1)
    return divergence


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    normed: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return normed


def _finite_or_none(value: float) -> float | None:
    """Six digits, or None for a NaN or an infinity, which JSON cannot hold."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def write_parity(folder: Path, parity: Parity) -> None:
    """Write ``parity.json``, which the bundle reads."""
    write_atomically(folder / PARITY_FILE, canonical_json(parity.model_dump(mode="json")))


def read_parity(folder: Path) -> Parity:
    """Read the parity record of an Export.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        content: Mapping[str, Any] = json.loads((folder / PARITY_FILE).read_bytes())
        return Parity(**content)
    except (OSError, TypeError, ValueError, ValidationError) as error:
        reason = error_line(error)[:300]
        raise DataError(f"{folder.name}: {PARITY_FILE} is no parity record: {reason}") from error


def reference_model(folder: Path) -> Decoder:
    """Load the torch model that every form is compared with: float32, in evaluation mode."""
    return load_model(folder).float()
