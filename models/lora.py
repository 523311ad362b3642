"""Low-rank adapters on linear layers (LoRA, Hu et al. 2021, arXiv:2106.09685).

    y = W x + scale B A x    scale: alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732)

Only A and B learn. B begins at zero, so an adapted model begins as the model it was made of. What
is wrapped may be a plain layer or one in four bits (``models/quantized_linear.py``).

Shapes in names: r rank, o outputs, i inputs.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.quantized_linear import Nf4Linear, widen_linears

ALL_LINEAR = "all-linear"
"""The target that means every linear layer but the head, as PEFT has it."""


@dataclass(frozen=True)
class Lora:
    """Which layers are adapted, and how."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: tuple[str, ...] = (ALL_LINEAR,)
    """Layer names: whole, their last parts, patterns with ``*``, or ``all-linear``."""

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Factor(nn.Module):
    """One of the two matrices. No ``nn.Linear``, so that Muon does not orthogonalise it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


class LoraLinear(nn.Module):
    """A linear layer with an adapter; ``base`` is frozen."""

    def __init__(self, base: nn.Linear | Nf4Linear, spec: Lora) -> None:
        super().__init__()
        self.base: nn.Linear | Nf4Linear = base.requires_grad_(False)
        self.scale, self.dropout = spec.scale, spec.dropout
        a_ri = torch.empty(spec.rank, base.in_features)
        nn.init.kaiming_uniform_(a_ri, a=math.sqrt(5))
        self.lora_A = Factor(a_ri)
        self.lora_B = Factor(torch.zeros(base.out_features, spec.rank))
        self._aside: tuple[nn.Linear | Nf4Linear, ...] = ()
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        if self.merged:
            return out
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        low = F.linear(dropped, self.lora_A.weight.to(x.dtype))
        return out + F.linear(low, self.lora_B.weight.to(x.dtype)) * self.scale

    @property
    def merged(self) -> bool:
        """Whether ``base`` holds the adapter already."""
        return bool(self._aside)

    @property
    def delta_oi(self) -> Tensor:
        """What the adapter adds to the weight."""
        return self.lora_B.weight @ self.lora_A.weight * self.scale

    @property
    def weight(self) -> Tensor:
        """The weight of base and adapter together [o, i]; gradients reach the adapter.

        For whoever multiplies with a layer's weight without calling the layer. Dropout is not in.
        """
        return self.base.weight if self.merged else self.base.weight + self.delta_oi

    @torch.no_grad()
    def dense(self) -> nn.Linear:
        """A plain layer, float32, that computes what this one computes without dropout."""
        if self.merged:
            assert isinstance(self.base, nn.Linear)
            return self.base
        layer = self.base.dense() if isinstance(self.base, Nf4Linear) else copy.deepcopy(self.base)
        layer.weight.add_(self.delta_oi)
        return layer

    def merge(self) -> None:
        """Compute with one matrix; the base is kept aside, so ``unmerge`` is exact."""
        if not self.merged:
            self._aside, self.base = (self.base,), self.dense().requires_grad_(False)

    def unmerge(self) -> None:
        """Undo ``merge``."""
        if self.merged:
            (self.base,), self._aside = self._aside, ()


def adapt(model: nn.Module, spec: Lora) -> list[str]:
    """Freeze ``model`` and put adapters on the layers that the targets name; their names.

    Raises:
        ValueError: a target names no linear layer, the rank is larger than a matrix, or a layer
            shares its weight. Nothing is changed then.
    """
    names = check(model, spec)
    model.requires_grad_(False)
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear | Nf4Linear)
        model.set_submodule(name, LoraLinear(base, spec))
    return names


def check(model: nn.Module, spec: Lora) -> list[str]:
    """Names of the layers that ``adapt`` would adapt.

    Raises:
        ValueError: as ``adapt``.
    """
    names = matching(model, spec.targets)
    for name in names:
        _check(model, name, spec.rank)
    return names


def linears(model: nn.Module) -> list[str]:
    """Names of the layers that can take an adapter."""
    kinds = nn.Linear | Nf4Linear
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def matching(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that any target names, in the model's order.

    Raises:
        ValueError: a target names none; says what there is.
    """
    there = linears(model)
    found: set[str] = set()
    for target in targets:
        named = {name for name in there if _names(target, name)}
        if not named:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in there))
            example = f", each by its whole name too, such as {there[0]}" if there else ""
            raise ValueError(f"{target!r} names no linear layer; there are {kinds}{example}")
        found |= named
    return [name for name in there if name in found]


def _names(target: str, name: str) -> bool:
    if target == ALL_LINEAR:
        return name.rpartition(".")[2] != "lm_head"
    return name == target or name.endswith(f".{target}") or fnmatch.fnmatchcase(name, target)


def _check(model: nn.Module, name: str, rank: int) -> None:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear | Nf4Linear)
    if rank > min(layer.in_features, layer.out_features):
        raise ValueError(
            f"rank {rank} is larger than {name}, which is {layer.out_features} x "
            f"{layer.in_features}"
        )
    if isinstance(layer, nn.Linear):
        for other, module in model.named_modules():
            if module is not layer and getattr(module, "weight", None) is layer.weight:
                raise ValueError(
                    f"{name} shares its weight with {other}, which an adapter on one would part"
                )


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """Name -> adapted layer."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}


class Learning(nn.Module):
    """The adapters' matrices alone, as one module: what is trained and saved of the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, layer in adapters(model).items():
            pair = nn.ModuleDict({"lora_A": layer.lora_A, "lora_B": layer.lora_B})
            self.add_module(name.replace(".", ":"), pair)


def factors(model: nn.Module) -> dict[str, Tensor]:
    """``NAME.lora_A.weight`` [r, i] and ``NAME.lora_B.weight`` [o, r] of every adapted layer."""
    found: dict[str, Tensor] = {}
    for name, layer in adapters(model).items():
        found[f"{name}.lora_A.weight"] = layer.lora_A.weight
        found[f"{name}.lora_B.weight"] = layer.lora_B.weight
    return found


def merge(model: nn.Module) -> None:
    """Let every adapted layer compute with one matrix; ``unmerge`` undoes it exactly."""
    for layer in adapters(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo ``merge``."""
    for layer in adapters(model).values():
        layer.unmerge()


def bake(model: nn.Module) -> None:
    """Make the adapted model a plain one for good: float32, without adapters, unfrozen.

    Layers in four bits become what they stood for: the adapter was learnt on top of that.
    """
    for name, layer in adapters(model).items():
        model.set_submodule(name, layer.dense())
    widen_linears(model)
    model.requires_grad_(True)
