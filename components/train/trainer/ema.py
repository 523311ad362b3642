"""Exponential moving average (EMA) of the weights.

After each step: average <- d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t))
for step t, so that the first weights are soon forgotten (the warm-up of TensorFlow's
``ExponentialMovingAverage``). It is part of the saved state and a function of the steps alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from components.core.errors import DataError

PREFIX = "ema/"


class WeightEma:
    """Averages of a module's trained parameters, in their own dtype and on their device."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._named.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after ``step`` (counted from 0) to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._average.values()), list(self._named.values()), 1.0 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Overwrite the module's weights with the averages."""
        for name, parameter in self._named.items():
            parameter.copy_(self._average[name])

    def tensors(self) -> dict[str, Tensor]:
        """State as flat named tensors: ``ema/NAME``."""
        return {f"{PREFIX}{name}": tensor for name, tensor in self._average.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state that ``tensors`` gave.

        Raises:
            DataError: it is the state of another model, or holds no average.
        """
        for name, average in self._average.items():
            saved = tensors.get(PREFIX + name)
            if saved is None or saved.shape != average.shape:
                raise DataError(f"the saved state holds no average of this model's {name}")
            average.copy_(saved)
