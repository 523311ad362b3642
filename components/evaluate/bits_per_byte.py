"""Bits per byte of a model on held-out pages, beside those of ``xz -9e`` on the same text.

A page is read in overlapping windows as long as the model's training blocks: every token is
predicted once, from its page alone, with at least ``window - stride`` tokens before it (or the
page's beginning). The first token is predicted from the end-of-text token, the end is paid for.
"""

from __future__ import annotations

import hashlib
import lzma
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.core.errors import ConfigError
from components.core.stats.figures import exact_figure, ratio_interval
from components.core.stats.report_config import ReportConfig
from components.core.stats.report_items import ReportItems, item_keys, write_items
from components.core.store.artifact import Checkpoint, Report, Tokens
from components.core.store.workdir import Workdir
from components.evaluate.sequence_likelihood import (
    ScoredSpan,
    batch_by_length,
    span_log_likelihoods,
)
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import TokenSplit, open_split, read_heldout_texts
from models.precision import Precision, compute_in

if TYPE_CHECKING:
    from models.decoder import Decoder


class LossConfig(ReportConfig):
    """Reading of held-out pages in overlapping windows."""

    figures: ClassVar = ("bits_per_byte", "xz_bits_per_byte")

    window: int = Field(default=512, ge=2, description="longest run of tokens the model sees")
    stride: int = Field(default=384, ge=1, description="tokens newly predicted in each window")
    most_tokens: int = Field(
        default=200_000, ge=1, description="pages are drawn as long as they hold no more tokens"
    )
    batch: int = Field(default=4096, ge=16, description="tokens in a batch, padding included")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="seed of the draw and the bootstrap")

    @model_validator(mode="after")
    def _overlaps(self) -> LossConfig:
        if self.stride > self.window:
            raise ValueError(f"stride ({self.stride}) must be within window ({self.window})")
        return self


@dataclass(frozen=True)
class PageWindow:
    """A window of a page; only tokens from ``span.start`` on are scored in it."""

    page: int
    span: ScoredSpan


def evaluate_loss(config: LossConfig, model: Checkpoint, tokens: Tokens, work: Workdir) -> Report:
    """Measure ``bits_per_byte`` (95 % interval over pages) and ``xz_bits_per_byte``.

    Args:
        config: windows, and how many pages are drawn.
        model: the decoder to measure.
        tokens: their held-out pages are read.
        work: folder of the report.

    Raises:
        ConfigError: model and tokens are of different tokenizers, or the model has a shorter
            context than the window.
        DataError: no page is held out.
    """
    folder = work.artifact_folder(tokens)
    check_one_tokenizer(
        "loss", record_of_model(work.artifact_folder(model)), record_of_tokens(folder)
    )
    decoder = load_model(work.artifact_folder(model))
    split = open_split(folder, "heldout")
    if config.window > decoder.shape.context:
        raise ConfigError(
            f"loss.window ({config.window}) must be within the model's context "
            f"({decoder.shape.context})"
        )
    names, texts = read_heldout_texts(folder, split)
    pages = draw_pages(np.diff(split.documents), names, config)
    windows = [window for page in pages for window in page_windows(split, page, config)]
    bits = _page_bits(decoder, windows, config, work)
    page_bits = np.array([bits[page] for page in pages])
    sizes = np.array([len(texts[page].encode()) for page in pages], dtype=np.float64)
    bits_per_byte = ratio_interval(
        page_bits, sizes, name="bits_per_byte", unit="bits/byte", seed=config.seed
    )
    xz = exact_figure("xz_bits_per_byte", xz_bits_per_byte(texts), "bits/byte", len(texts))
    predicted = sum(len(window.span.ids) - window.span.start for window in windows)
    config.write_report(work.folder, [bits_per_byte, xz], predicted_tokens=predicted)
    keys = item_keys([[names[page], config.window, config.stride] for page in pages])
    page_names = [names[page] for page in pages]
    write_items(work.folder, ReportItems(keys, page_names, sizes, {"bits_per_byte": page_bits}))
    stats = {figure.name: round(figure.value, 4) for figure in (bits_per_byte, xz)}
    return work.seal(Report, stats={**stats, "pages": len(pages), "tokens": predicted})


def _page_bits(
    model: Decoder, windows: list[PageWindow], config: LossConfig, work: Workdir
) -> dict[int, float]:
    """Bits of each page's tokens under the model."""
    bits: dict[int, float] = defaultdict(float)
    spans = [window.span for window in windows]
    work.progress.start_count(len(windows), "windows")
    with compute_in(model, config.precision):
        for rows in batch_by_length([len(span.ids) for span in spans], config.batch):
            for row, value in zip(rows, span_log_likelihoods(model, spans, rows), strict=True):
                bits[windows[row].page] -= value / math.log(2)
            work.progress.advance(len(rows))
    return bits


def draw_pages(lengths: NDArray[np.int64], names: Sequence[str], config: LossConfig) -> list[int]:
    """Draw pages by digest, each that still fits into ``most_tokens``, the first always.

    A corpus that grew keeps most of the pages it was measured on before.

    Args:
        lengths: tokens of each page.
        names: names of the pages; a page's place in the draw depends on its name alone.
        config: seed and tokens.

    Returns:
        Numbers of the drawn pages, rising.
    """
    pages: list[int] = []
    left = config.most_tokens
    for page in sorted(range(len(names)), key=lambda page: _draw_rank(config.seed, names[page])):
        if lengths[page] <= left or not pages:
            pages.append(page)
            left -= int(lengths[page])
    return sorted(pages)


def _draw_rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def page_windows(split: TokenSplit, page: int, config: LossConfig) -> list[PageWindow]:
    """Overlapping windows that together predict every token of a page once.

    Args:
        split: holds the page.
        page: its number.
        config: length and stride of windows.
    """
    ids = np.concatenate(([split.eos], split.document(page))).astype(np.int64)
    windows = [PageWindow(page, ScoredSpan(ids[: config.window], 1))]
    done = config.window
    while done < len(ids):
        end = min(done + config.stride, len(ids))
        begin = end - min(config.window, end)
        windows.append(PageWindow(page, ScoredSpan(ids[begin:end], done - begin)))
        done = end
    return windows


def xz_bits_per_byte(texts: list[str]) -> float:
    """Bits per byte that ``xz -9e`` needs for the texts, joined by newlines."""
    content = "\n".join(texts).encode()
    return 8 * len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)) / len(content)
