"""Log-likelihood of token sequences under a model, in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.decoder import Decoder


@dataclass(frozen=True)
class ScoredSpan:
    """Token ``ids``, of which those from ``start`` (>= 1) on are scored."""

    ids: NDArray[np.int64]
    start: int


def continuation_span(context: Sequence[int], continuation: Sequence[int]) -> ScoredSpan:
    """Span that scores ``continuation`` behind ``context``."""
    return ScoredSpan(np.array([*context, *continuation], dtype=np.int64), len(context))


def batch_by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Batch indices by rising length, each batch within ``tokens`` when padded."""
    run: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if run and (len(run) + 1) * lengths[index] > tokens:
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def span_log_likelihoods(
    model: Decoder, spans: Sequence[ScoredSpan], rows: Sequence[int]
) -> list[float]:
    """Natural log-probability of spans, computed as one batch padded on the right.

    Args:
        model: the decoder.
        spans: all spans.
        rows: indices of those in the batch.
    """
    import torch
    from torch.nn import functional as F

    longest = max(len(spans[row].ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    wanted = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for at, row in enumerate(rows):
        length = len(spans[row].ids)
        ids[at, :length] = torch.from_numpy(spans[row].ids)
        wanted[at, spans[row].start - 1 : length - 1] = True
    with torch.inference_mode():
        hidden = model.hidden(ids[:, :-1])[wanted]
        losses = F.cross_entropy(model.logits(hidden).float(), ids[:, 1:][wanted], reduction="none")
        sums = torch.zeros(len(rows), dtype=torch.float64)
        sums.index_add_(0, wanted.nonzero()[:, 0], losses.double())
    return [-total for total in sums.tolist()]
