"""Optimiser: Muon on matrices, AdamW on the rest, in one step; state as flat named tensors.

Muon: momentum orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024,
kellerjordan.github.io/posts/muon), with the coefficients of Polar Express (Amsel et al. 2025,
arXiv:2505.16932), each update scaled by sqrt(max(1, rows / columns)). AdamW: Loshchilov & Hutter
(arXiv:1711.05101).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from components.core.errors import DataError
from components.train.training_config import OptimConfig
from models.precision import resolve_dtype

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""(a, b, c) of five iterations x -> a x + b (x xT) x + c (x xT)^2 x."""
_EPS = 1e-10


def orthogonalise(g_nrc: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix of each of a stack [n, rows, columns].

    Computed in ``dtype``; singular values end within about 0.7 and 1.2.
    """
    x = g_nrc.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    norms = x.float().flatten(1).norm(dim=1)[:, None, None]
    x = (x / (norms * 1.01 + _EPS)).to(dtype)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimiser:
    """Optimiser of every parameter of ``model`` that takes a gradient.

    With Muon, matrices outside embeddings and heads are orthogonalised; embeddings, heads,
    norms and biases take AdamW. Names are the model's own, so the state fits any equal model.
    """

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.config = config
        self._named = self._own_parameters(model)
        matrices = _muon_matrices(model) if config.kind == "muon" else set()
        embeddings = _embedding_names(model)
        self._muon = {n: p for n, p in self._named.items() if n in matrices}
        rest = {n: p for n, p in self._named.items() if n not in matrices}
        self._momentum = {n: torch.zeros_like(p) for n, p in self._muon.items()}
        self._adam = torch.optim.AdamW(
            [
                _parameter_group(
                    (p for n, p in rest.items() if n in embeddings), config.embedding_lr, 0.0
                ),
                _parameter_group((p for p in rest.values() if p.ndim < 2), config.adam_lr, 0.0),
                _parameter_group(
                    (p for n, p in rest.items() if n not in embeddings and p.ndim > 1),
                    config.adam_lr,
                    config.weight_decay,
                ),
            ],
            betas=(config.beta1, config.beta2),
            eps=config.adam_eps,
            fused=True,
        )
        self._rates = [config.embedding_lr, config.adam_lr, config.adam_lr]

    def _own_parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """This process's part of every parameter that takes a gradient, by name."""
        return {n: p for n, p in model.named_parameters() if p.requires_grad}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._named.values():
            parameter.grad = None

    def clip(self) -> float:
        """Clip the norm of the whole gradient to ``config.clip``; returns the norm before that."""
        norm = nn.utils.clip_grad_norm_(self._named.values(), self.config.clip, foreach=True)
        return float(norm)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Step with all rates times ``factor``; parameters without a gradient stay."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._adam.step()
        whole = {n: self._shape(n) for n, p in self._muon.items() if p.grad is not None}
        for names in _group_by_shape(whole).values():
            self._step_muon(names, self.config.muon_lr * factor)

    def _shape(self, name: str) -> torch.Size:
        """Shape of the whole matrix."""
        return self._muon[name].shape

    def _orthogonal_updates(self, names: list[str], moved: list[Tensor]) -> list[Tensor]:
        """Orthogonalise ``moved``: this process's parts in, this process's parts out."""
        return list(self._orthogonalise_stack(torch.stack(moved)).to(moved[0].dtype).unbind())

    def _orthogonalise_stack(self, moved_nrc: Tensor) -> Tensor:
        # Emulated bfloat16 is fifteen times slower than float32 on a processor without it.
        return orthogonalise(
            moved_nrc, resolve_dtype(self.config.muon_dtype, moved_nrc.device.type)
        )

    def _step_muon(self, names: list[str], rate: float) -> None:
        parameters: list[Tensor] = [self._muon[name] for name in names]
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._momentum[name] for name in names]
        torch._foreach_lerp_(momenta, gradients, 1.0 - self.config.momentum)
        nesterov = torch._foreach_lerp(gradients, momenta, self.config.momentum)
        updates = self._orthogonal_updates(names, list(nesterov))
        rows, columns = self._shape(names[0])
        if self.config.weight_decay:
            torch._foreach_mul_(parameters, 1.0 - rate * self.config.weight_decay)
        torch._foreach_add_(parameters, updates, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def tensors(self) -> dict[str, Tensor]:
        """Whole state as flat named tensors: ``muon/NAME``, ``adam/NAME/exp_avg`` ..."""
        state = {f"muon/{name}": tensor for name, tensor in self._momentum.items()}
        for name, parameter in self._named.items():
            for key, tensor in self._adam.state.get(parameter, {}).items():
                state[f"adam/{name}/{key}"] = tensor
        return state

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state that ``tensors`` gave.

        Raises:
            DataError: it is the state of another model or optimiser.
        """
        self._adam.state.clear()
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            name, _, moment = rest.partition("/")
            known = self._momentum if kind == "muon" else self._named
            if name not in known or (moment != "step" and tensor.shape != known[name].shape):
                raise DataError(f"the saved state is of another model: {key}")
            if kind == "muon":
                self._momentum[name].copy_(tensor)
            else:
                self._adam.state[self._named[name]][moment] = tensor.clone()


def _muon_matrices(model: nn.Module) -> set[str]:
    """Weights of linear layers between the embeddings and the heads."""
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and id(module.weight) not in shared
        and min(module.weight.shape) > 1
        and not name.endswith("lm_head")
    }


def _embedding_names(model: nn.Module) -> set[str]:
    return {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Embedding)}


def _parameter_group(
    parameters: Iterable[nn.Parameter], rate: float, decay: float
) -> dict[str, object]:
    return {"params": list(parameters), "lr": rate, "weight_decay": decay}


def _group_by_shape(shapes: Mapping[str, torch.Size]) -> dict[torch.Size, list[str]]:
    """Shape -> names: each group is orthogonalised as one stack."""
    groups: dict[torch.Size, list[str]] = {}
    for name, shape in shapes.items():
        groups.setdefault(shape, []).append(name)
    return groups
