"""The teacher's loss against its formula, its chunks, and pairs of hidden states."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models import distillation_loss
from models.decoder import Decoder
from models.distillation_loss import (
    Projections,
    capture_layers,
    logit_loss,
    pair_layers,
    softened_loss,
)
from models.shape import DecoderShape

TEACHER = DecoderShape(
    vocabulary=61, width=32, layers=4, heads=2, kv_heads=1, head_width=16, hidden=48, context=32
)
STUDENT = DecoderShape(**{**TEACHER.__dict__, "width": 16, "layers": 2})
IDS = torch.randint(0, 61, (3, 9), generator=torch.Generator().manual_seed(0))
INPUTS, TARGETS = IDS[:, :-1], IDS[:, 1:]


@pytest.fixture
def models() -> tuple[Decoder, Decoder]:
    torch.manual_seed(0)
    student, teacher = Decoder(STUDENT).double(), Decoder(TEACHER).double()
    with torch.no_grad():
        for model in (student, teacher):
            for parameter in model.parameters():
                parameter.mul_(10.0) if parameter.ndim > 1 else None
    student.compute = teacher.compute = torch.float64
    return student, teacher.requires_grad_(False).eval()


def draw(*size: int, seed: int) -> torch.Tensor:
    return 2 * torch.randn(
        *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def test_the_soft_part_is_the_divergence_times_the_square_of_the_temperature() -> None:
    student, teacher, targets = draw(5, 7, seed=0), draw(5, 7, seed=1), torch.arange(5)
    found = softened_loss(student, teacher, targets, temperature=3.0, weight=0.25)
    soft = F.kl_div(
        (student / 3).log_softmax(-1),
        (teacher / 3).log_softmax(-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    hard = F.cross_entropy(student, targets, reduction="none")
    torch.testing.assert_close(found, 0.75 * hard + 0.25 * 9 * soft)
    alike = softened_loss(teacher, teacher, targets, temperature=3.0, weight=1.0)
    torch.testing.assert_close(alike, torch.zeros(5, dtype=torch.float64))


def test_the_gradient_keeps_its_size_as_the_temperature_grows() -> None:
    sizes = []
    for temperature in (10.0, 100.0):
        student = draw(5, 7, seed=0).requires_grad_()
        softened_loss(
            student, draw(5, 7, seed=1), torch.arange(5), temperature, 1.0
        ).sum().backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_chunks_give_the_loss_and_gradient_of_all_logits_at_once(
    models: tuple[Decoder, Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = models
    share = torch.rand(TARGETS.shape, generator=torch.Generator().manual_seed(2)).double()
    held: list[int] = []
    whole_logits = student.logits

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        held.append(whole_logits(hidden).numel())
        return whole_logits(hidden)

    monkeypatch.setattr(distillation_loss, "CHUNK_LOGITS", 5 * 61)
    monkeypatch.setattr(student, "logits", counted)
    hidden = student.hidden(INPUTS), teacher.hidden(INPUTS)
    given = (hidden, TARGETS, share)
    # Twice the loss: a gradient from outside must be passed on.
    (2 * logit_loss(student, teacher, *given, temperature=2.0, weight=0.6)).backward()
    chunked = [parameter.grad for parameter in student.parameters()]
    assert max(held) == 5 * 61
    student.zero_grad()
    losses = softened_loss(
        whole_logits(student.hidden(INPUTS)).flatten(0, 1),
        teacher.logits(hidden[1]).flatten(0, 1),
        TARGETS.flatten(),
        2.0,
        0.6,
    )
    (2 * (losses * share.flatten()).sum()).backward()
    for found, parameter in zip(chunked, student.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_layers_are_paired_by_depth() -> None:
    assert pair_layers([0, 1, 2], 3, 12) == {0: 3, 1: 7, 2: 11}
    assert pair_layers([0, 3], 4, 4) == {0: 0, 3: 3}
    assert pair_layers([0], 4, 1) == {0: 0}


def test_hidden_states_that_agree_cost_nothing_and_others_are_learnt(
    models: tuple[Decoder, Decoder],
) -> None:
    student, teacher = (model.float() for model in models)
    student.compute = teacher.compute = torch.float32
    projections = Projections({1: 3}, STUDENT.width, TEACHER.width)
    share = torch.full(TARGETS.shape, 1 / TARGETS.numel())
    with torch.no_grad(), capture_layers(teacher, [3]) as told:
        teacher.hidden(INPUTS)
    wanted = F.rms_norm(told[3], (TEACHER.width,))
    matched = Projections({1: 3}, TEACHER.width, TEACHER.width)
    torch.nn.init.eye_(matched.matrices[0].weight)
    assert float(matched({1: wanted}, told, share)) == pytest.approx(0, abs=1e-10)
    assert float(matched({1: -wanted}, told, share)) == pytest.approx(4, rel=1e-3)
    with capture_layers(student, [1]) as own:
        student.hidden(INPUTS)
    projections(own, told, share).backward()
    assert projections.matrices[0].weight.grad is not None
    assert student.layers[1].mlp.down_proj.weight.grad is not None
    assert not student.layers[1]._forward_hooks
