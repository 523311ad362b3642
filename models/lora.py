"""Low-rank adapters on linear layers (LoRA, Hu et al. 2021, arXiv:2106.09685).

    y = W x + scale B A x    scale: alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732)

Only A and B are trained. B starts at zero, so an adapted model starts as the original. The wrapped
layer may be a plain one or one in four bits (``models/quantized_linear.py``).

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
class LoraSpec:
    """Specification of adapters: layers, rank, scale and dropout."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: tuple[str, ...] = (ALL_LINEAR,)
    """Layer names: whole, their last parts, patterns with ``*``, or ``all-linear``."""

    @property
    def scale(self) -> float:
        """Factor on B A x."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoraFactor(nn.Module):
    """One of the two matrices. No ``nn.Linear``, so that Muon does not orthogonalise it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


class LoraLinear(nn.Module):
    """A linear layer with an adapter; ``base`` is frozen."""

    def __init__(self, base: nn.Linear | Nf4Linear, spec: LoraSpec) -> None:
        super().__init__()
        self.base: nn.Linear | Nf4Linear = base.requires_grad_(False)
        self.scale, self.dropout = spec.scale, spec.dropout
        a_ri = torch.empty(spec.rank, base.in_features)
        nn.init.kaiming_uniform_(a_ri, a=math.sqrt(5))
        self.lora_A = LoraFactor(a_ri)
        self.lora_B = LoraFactor(torch.zeros(base.out_features, spec.rank))
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
        """True where the adapter is merged into ``base``."""
        return bool(self._aside)

    @property
    def delta_oi(self) -> Tensor:
        """Low-rank update B A times the scale, [o, i]."""
        return self.lora_B.weight @ self.lora_A.weight * self.scale

    @property
    def weight(self) -> Tensor:
        """Effective weight [o, i] of base and adapter, without dropout, with gradients.

        For code that multiplies with a layer's weight without calling the layer.
        """
        return self.base.weight if self.merged else self.base.weight + self.delta_oi

    @torch.no_grad()
    def dense(self) -> nn.Linear:
        """A plain float32 layer that computes the same, without dropout."""
        if self.merged:
            assert isinstance(self.base, nn.Linear)
            return self.base
        layer = self.base.dense() if isinstance(self.base, Nf4Linear) else copy.deepcopy(self.base)
        layer.weight.add_(self.delta_oi)
        return layer

    def merge(self) -> None:
        """Compute with one matrix; the base is kept, so ``unmerge_adapters`` is exact."""
        if not self.merged:
            self._aside, self.base = (self.base,), self.dense().requires_grad_(False)

    def unmerge(self) -> None:
        """Undo ``merge_adapters``."""
        if self.merged:
            (self.base,), self._aside = self._aside, ()


def add_lora(model: nn.Module, spec: LoraSpec) -> list[str]:
    """Freeze ``model`` and add adapters to the layers that the targets name; returns their names.

    Raises:
        ValueError: a target names no linear layer, the rank is larger than a matrix, or a layer
            shares its weight. Nothing is changed then.
    """
    names = check_lora(model, spec)
    model.requires_grad_(False)
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear | Nf4Linear)
        model.set_submodule(name, LoraLinear(base, spec))
    return names


def check_lora(model: nn.Module, spec: LoraSpec) -> list[str]:
    """Names of the layers that ``add_lora`` would adapt.

    Raises:
        ValueError: as ``add_lora``.
    """
    names = match_linears(model, spec.targets)
    for name in names:
        _check_layer(model, name, spec.rank)
    return names


def linear_names(model: nn.Module) -> list[str]:
    """Names of the layers that can take an adapter."""
    kinds = nn.Linear | Nf4Linear
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def match_linears(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that any target names, in the model's order.

    Raises:
        ValueError: a target names none; says what there is.
    """
    available = linear_names(model)
    matched: set[str] = set()
    for target in targets:
        named = {name for name in available if _is_named_by(target, name)}
        if not named:
            kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in available))
            example = f", each by its whole name too, such as {available[0]}" if available else ""
            raise ValueError(f"{target!r} names no linear layer; there are {kinds}{example}")
        matched |= named
    return [name for name in available if name in matched]


def _is_named_by(target: str, name: str) -> bool:
    if target == ALL_LINEAR:
        return name.rpartition(".")[2] != "lm_head"
    return name == target or name.endswith(f".{target}") or fnmatch.fnmatchcase(name, target)


def _check_layer(model: nn.Module, name: str, rank: int) -> None:
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


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Name -> adapted layer."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}


class AdapterParameters(nn.Module):
    """Matrices of all adapters as one module: the part of the model that is trained and saved."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, layer in lora_layers(model).items():
            pair = nn.ModuleDict({"lora_A": layer.lora_A, "lora_B": layer.lora_B})
            self.add_module(name.replace(".", ":"), pair)


def lora_tensors(model: nn.Module) -> dict[str, Tensor]:
    """``NAME.lora_A.weight`` [r, i] and ``NAME.lora_B.weight`` [o, r] of every adapted layer."""
    tensors: dict[str, Tensor] = {}
    for name, layer in lora_layers(model).items():
        tensors[f"{name}.lora_A.weight"] = layer.lora_A.weight
        tensors[f"{name}.lora_B.weight"] = layer.lora_B.weight
    return tensors


def merge_adapters(model: nn.Module) -> None:
    """Merge every adapter into its layer; ``unmerge_adapters`` undoes it exactly."""
    for layer in lora_layers(model).values():
        layer.merge()


def unmerge_adapters(model: nn.Module) -> None:
    """Undo ``merge_adapters``."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def merge_and_unload(model: nn.Module) -> None:
    """Merge all adapters and remove them: a plain float32 model, unfrozen.

    Layers in four bits become their dequantized values, on which the adapter was trained.
    """
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.dense())
    widen_linears(model)
    model.requires_grad_(True)
