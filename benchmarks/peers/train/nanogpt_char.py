"""nanoGPT's published CPU setting on a character corpus, reimplemented from its description.

    python nanogpt_char.py TRAIN.npy HELDOUT.npy VOCABULARY TARGET STEPS

Pre-norm blocks with LayerNorm without bias, learned positions, GELU, tied head; AdamW (0.9, 0.99),
weight decay 0.1 on matrices, rate 1e-3 down to 1e-4 by a cosine, 100 steps of warm-up, clipping at
1, float32, random blocks. Prints [seconds of training until the target or the end, steps, loss].
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK, ROWS, LAYERS, HEADS, WIDTH = 64, 12, 4, 4, 128
PEAK_RATE, LAST_RATE, WARMUP = 1e-3, 1e-4, 100
EVALUATION_STEPS = 250
"""Steps between evaluations of the held-out loss, as published; their time is not counted."""


class Block(nn.Module):
    """Pre-norm block: causal self-attention and MLP with residual connections."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.attend = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.join = nn.Linear(WIDTH, WIDTH, bias=False)
        self.widen = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        parts = self.attend(self.norms[0](x)).split(WIDTH, dim=2)
        q, k, v = (part.view(rows, length, HEADS, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.join(mixed.transpose(1, 2).reshape(rows, length, WIDTH))
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norms[1](x))))
        return out


class Model(nn.Module):
    """Decoder with learned positions and a tied head; returns the logits of every position."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.letters.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                inward = name.endswith(("join.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if inward else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.letters(ids) + self.places(torch.arange(ids.shape[1]))
        out: Tensor = self.head(self.norm(self.blocks(x)))
        return out


def build_optimizer(model: Model) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.99))


def learning_rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / (WARMUP + 1)
    along = (step - WARMUP) / max(1, steps - WARMUP)
    return LAST_RATE + 0.5 * (1.0 + math.cos(math.pi * along)) * (PEAK_RATE - LAST_RATE)


def draw_batch(tokens: Tensor) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(tokens) - BLOCK, (ROWS,))
    inputs = torch.stack([tokens[at : at + BLOCK] for at in starts])
    return inputs, torch.stack([tokens[at + 1 : at + 1 + BLOCK] for at in starts])


@torch.no_grad()
def heldout_loss(model: Model, tokens: Tensor) -> float:
    """Mean loss over every position of the split, in consecutive blocks."""
    total = 0.0
    inputs, targets = torch.split(tokens[:-1], BLOCK), torch.split(tokens[1:], BLOCK)
    for at in range(0, len(inputs) - 1, 64):  # the last block is shorter
        block_targets = torch.stack(targets[at : min(at + 64, len(inputs) - 1)])
        logits = model(torch.stack(inputs[at : min(at + 64, len(inputs) - 1)]))
        total += float(
            F.cross_entropy(logits.flatten(0, 1), block_targets.flatten(), reduction="sum")
        )
    total += float(F.cross_entropy(model(inputs[-1][None])[0], targets[-1], reduction="sum"))
    return total / (len(tokens) - 1)


def train_to_target(
    train: Tensor, heldout: Tensor, vocabulary: int, target: float, steps: int
) -> list[float]:
    """Train until the held-out loss reaches the target; returns [seconds, steps, loss].

    Args:
        train: token ids.
        heldout: token ids.
        vocabulary: number of characters.
        target: held-out loss in nats at which the training ends.
        steps: most steps, which the schedule spans.
    """
    torch.manual_seed(1337)
    model = Model(vocabulary)
    optimizer = build_optimizer(model)
    seconds, loss = 0.0, math.inf
    for step in range(steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        inputs, targets = draw_batch(train)
        batch_loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        batch_loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
        if (step + 1) % EVALUATION_STEPS == 0 or step + 1 == steps:
            loss = heldout_loss(model, heldout)
            if loss <= target:
                return [seconds, step + 1, loss]
    return [seconds, steps, loss]


def read_tokens(path: str) -> Tensor:
    tokens: NDArray[np.int64] = np.load(Path(path)).astype(np.int64)
    return torch.from_numpy(tokens)


def main() -> None:
    first, second, vocabulary, target, steps = sys.argv[1:]
    figures = train_to_target(
        read_tokens(first), read_tokens(second), int(vocabulary), float(target), int(steps)
    )
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
