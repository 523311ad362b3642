"""Adapters that run each exported form on parity's ragged batches, as a ``parity.Form`` each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.export.onnx.onnx_session import OnnxModel, open_session
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.parity import Form, Ids, Logits

if TYPE_CHECKING:
    from models.decoder import Decoder

Masked = Callable[[Ids, Ids, Any], tuple[Logits, Any]]
"""(ids [b, t], mask [b, p + t], cache) -> (logits [b, t, v], cache): one call of a form whose mask
has a column for every position of its cache. The first call's cache is None."""


def served_form(path: Path, threads: int | None = None) -> Form:
    """Form of the served graph (float32 or quantized), run by the batch that serving uses."""
    model = OnnxModel(path, threads)

    def run(rows: Sequence[Ids], steps: int) -> list[Logits]:
        batch = RaggedBatch(model, len(rows))
        for _ in rows:
            batch.join()
        prompts = [row[: len(row) - steps] for row in rows]
        row_logits = [[logits] for logits in batch.feed(0, prompts)]
        for step in range(steps):
            logits = batch.step([int(row[len(row) - steps + step]) for row in rows])
            for parts, row in zip(row_logits, logits, strict=True):
                parts.append(row[None].copy())  # the next step writes over it
        return [np.concatenate(parts) for parts in row_logits]

    return run


def masked_form(call: Masked) -> Form:
    """Form of a call that takes a mask over all positions; prompts are padded on the right."""

    def run(rows: Sequence[Ids], steps: int) -> list[Logits]:
        lengths = np.array([len(row) - steps for row in rows])
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for row, length in enumerate(lengths):
            ids[row, :length] = rows[row][:length]
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        logits, cache = call(ids, mask, None)
        row_logits = [[logits[row, :length]] for row, length in enumerate(lengths)]
        next_column = np.ones((len(rows), 1), dtype=np.int64)
        for step in range(steps):
            mask = np.concatenate((mask, next_column), axis=1)
            ids = np.array([[row[len(row) - steps + step]] for row in rows])
            logits, cache = call(ids, mask, cache)
            for row, parts in enumerate(row_logits):
                parts.append(logits[row])
        return [np.concatenate(parts) for parts in row_logits]

    return run


def plain_form(path: Path, threads: int | None = None) -> Form:
    """Form of the plain graph, run by onnxruntime."""
    session = open_session(path, threads)
    inputs = session.get_inputs()
    past = inputs[2:]
    half = past[0].type == "tensor(float16)"
    empty = np.zeros(0, dtype=np.float16 if half else np.float32)

    def call(ids: Ids, mask: Ids, cache: Any) -> tuple[Logits, Any]:
        if cache is None:
            sizes = [(len(ids), argument.shape[1], 0, argument.shape[3]) for argument in past]
            cache = [empty.reshape(size) for size in sizes]
        fed = dict(zip((argument.name for argument in past), cache, strict=True))
        logits, *present = session.run(None, {"input_ids": ids, "attention_mask": mask, **fed})
        return logits, present

    return masked_form(call)


def torch_form(model: Decoder) -> Form:
    """Form of a torch decoder, run with its own cache, one window at a time."""
    import torch

    from models.decoder import Cache

    def run_window(row: Ids, steps: int) -> Logits:
        ids = torch.from_numpy(row)[None]
        cache = Cache(model.shape, 1, len(row), model.embed_tokens.weight)
        cut = len(row) - steps
        parts = [ids[:, :cut], *(ids[:, at : at + 1] for at in range(cut, len(row)))]
        with torch.inference_mode():
            parts_logits = [model.logits(model.hidden(part, cache=cache)) for part in parts]
        logits: Logits = torch.cat(parts_logits, dim=1)[0].float().numpy()
        return logits

    return lambda rows, steps: [run_window(row, steps) for row in rows]


def transformers_form(folder: Path) -> Form:
    """Form of a folder as transformers, a development dependency, loads it.

    Raises:
        ImportError: transformers is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto")
    model.eval()
    windowed = getattr(model.config, "sliding_window", None) is not None

    def call(ids: Ids, mask: Ids, cache: Any) -> tuple[Logits, Any]:
        places = (mask.cumsum(1) - 1).clip(min=0)[:, -ids.shape[1] :]
        with torch.inference_mode():
            out = model(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                position_ids=torch.from_numpy(places),
                past_key_values=cache,
                use_cache=True,
            )
        return out.logits.float().numpy(), out.past_key_values

    form = masked_form(call)
    if not windowed:
        return form
    # Its window is counted in columns of the mask, padding among them: rows come one at a time.
    return lambda rows, steps: [form([row], steps)[0] for row in rows]
