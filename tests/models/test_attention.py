"""Windows, scaled positions, documents, the cache and recomputation, for every kind of decoder."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from models.attention import block_masks
from models.attention.attention import capped_attention
from models.attention.attention_masks import visible_keys
from models.attention.rotary import rotary_frequencies
from models.decoder import Cache, Decoder, document_mask
from models.generate import generate_answers
from models.shape import RopeScaling
from tests.models.variants import SHAPE, VARIANTS, random_decoder, some_ids

DENSE = [name for name, shape in VARIANTS.items() if shape.experts is None]
"""In a mixture a rounding sends some tokens to other experts."""
PROMPTS = [[7, 8, 9], [1], [5, 6, 7, 8, 9, 10, 11, 3, 4, 5, 6], [30, 31]]


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_steps_equal_one_pass(name: str) -> None:
    model, ids = random_decoder(VARIANTS[name]), some_ids()
    with torch.no_grad():
        whole = model.hidden(ids)
        cache = Cache(model.shape, len(ids), ids.shape[1], whole)
        parts = [model.hidden(part, cache=cache) for part in ids[:, :27].split([13, 12, 2], dim=1)]
        parts += [model.hidden(ids[:, i : i + 1], cache=cache) for i in range(27, ids.shape[1])]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def slow(model: Decoder, prompt: list[int], count: int) -> list[int]:
    """Greedy, the whole sequence anew for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_ragged_batch_says_what_a_loop_without_cache_says(name: str) -> None:
    model = random_decoder(VARIANTS[name])
    said = generate_answers(model, PROMPTS, max_new=8, stop_ids=(-1,), temperature=0)
    assert [one.tokens for one in said] == [slow(model, prompt, 8) for prompt in PROMPTS]


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", VARIANTS)
def test_recomputing_gives_equal_loss_and_gradients(name: str, compute: torch.dtype) -> None:
    ids = some_ids(2, 20)
    documents = (ids % 7 == 0).cumsum(1)

    def step(recompute: bool) -> tuple[torch.Tensor, list[torch.Tensor | None], list[torch.Tensor]]:
        model = random_decoder(VARIANTS[name]).train()
        model.compute, model.activation_checkpointing = compute, recompute
        hidden = model.hidden(ids, documents_bt=documents)
        loss = model.loss(hidden, ids.roll(-1, 1), torch.full(ids.shape, 1 / ids.numel()))
        loss.backward()
        return loss, [p.grad for p in model.parameters()], list(model.buffers())

    (one, gradients, loads), (two, again, counted) = step(False), step(True)
    assert torch.equal(one, two)
    for gradient, other in zip(gradients, again, strict=True):
        assert gradient is other is None or torch.equal(gradient, other)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(loads, counted, strict=True))


def test_recomputing_keeps_less_for_the_gradient() -> None:
    kept = {}
    for recompute in (False, True):
        model = random_decoder().train()
        model.activation_checkpointing, total = recompute, [0]

        def pack(x: torch.Tensor, total: list[int] = total) -> torch.Tensor:
            total[0] += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model.hidden(some_ids())
        kept[recompute] = total[0]
    assert kept[True] < kept[False] / 5


@pytest.mark.parametrize("name", DENSE)
def test_bfloat16_gradients_follow_float32(name: str) -> None:
    ids = some_ids()
    targets, share = ids.roll(-1, 1), torch.full(ids.shape, 1 / ids.numel())
    model, found = random_decoder(VARIANTS[name]), []
    for compute in (torch.float32, torch.bfloat16):
        model.compute = compute
        model.zero_grad()
        model.loss(
            model.hidden(ids, documents_bt=(ids % 9 == 0).cumsum(1)), targets, share
        ).backward()
        found.append({n: p.grad.flatten() for n, p in model.named_parameters()})  # type: ignore[union-attr]
    for key, exact in found[0].items():
        if exact.numel() > 1:
            assert F.cosine_similarity(exact, found[1][key], dim=0) > 0.98, key


def test_a_window_is_the_mask_that_says_so() -> None:
    ids, length = some_ids(), 33
    places = torch.arange(length)
    band = (places[:, None] >= places) & (places[:, None] - places < 7)
    documents = (ids % 9 == 0).cumsum(1)
    windowed, plain = random_decoder(VARIANTS["window"]), random_decoder(SHAPE)
    for numbers, mask in ((None, band[None, None]), (documents, band & document_mask(documents))):
        for compute in (torch.float32, torch.bfloat16):
            windowed.compute = plain.compute = compute
            with torch.no_grad():
                found = windowed.hidden(ids, documents_bt=numbers)
                assert torch.equal(found, plain.hidden(ids, mask=mask))
    assert not torch.allclose(found.float(), plain.hidden(ids).float(), atol=1e-2)


def test_a_layer_with_a_window_is_blind_beyond_it() -> None:
    model = random_decoder(replace(SHAPE, layers=1, window=4))
    ids = some_ids(1, 12)
    other = ids.clone()
    other[0, 5] = (ids[0, 5] + 1) % 101
    with torch.no_grad():
        changed = (model.hidden(ids) - model.hidden(other)).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_the_cache_is_cut_to_the_window() -> None:
    one = visible_keys(None, 1, 30, 7, torch.device("cpu"))
    assert (one.first, one.mask) == (24, None)
    several = visible_keys(None, 3, 30, 7, torch.device("cpu"))
    assert several.first == 24
    assert several.mask is not None
    assert several.mask[0, 0].int().tolist() == [
        [1] * 7 + [0, 0],
        [0] + [1] * 7 + [0],
        [0, 0] + [1] * 7,
    ]


@pytest.mark.parametrize("name", ["dense", "multi-query", "window in some layers", "research"])
def test_flex_attention_gives_the_same_numbers(name: str) -> None:
    ids = some_ids(2, 40)
    numbers = (ids % 11 == 0).cumsum(1)
    for documents in (None, numbers):
        model, found = random_decoder(VARIANTS[name]), []
        for flexible in (False, True):
            model.flexible = flexible
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # it says that it is slow when not compiled
                found.append(model.hidden(ids, documents_bt=documents))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_flex_attention_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(block_masks, "_kernel_works", lambda *_: True)
    assert block_masks.pays_off(cuda, torch.bfloat16, 1024, 64)
    assert not block_masks.pays_off(cpu, torch.bfloat16, 1024, 64)
    assert not block_masks.pays_off(cuda, torch.float32, 1024, 64)
    assert not block_masks.pays_off(cuda, torch.bfloat16, 256, 64)
    calls = []
    monkeypatch.setattr(block_masks, "pays_off", lambda *_: True)
    monkeypatch.setattr(block_masks, "flex_attend", lambda q, *_: calls.append(1) or q)
    model, ids = random_decoder(), some_ids()
    model.hidden(ids)
    assert not calls  # plain causal attention is SDPA's
    model.hidden(ids, documents_bt=(ids % 9 == 0).cumsum(1))
    assert len(calls) == SHAPE.layers


def test_documents_stand_in_place_of_a_mask() -> None:
    model, ids = random_decoder(), some_ids()
    documents = (ids % 9 == 0).cumsum(1)
    with torch.no_grad():
        one = model.hidden(ids, documents_bt=documents)
        assert torch.equal(one, model.hidden(ids, mask=document_mask(documents)))
    with pytest.raises(ValueError, match="in place of a mask"):
        model.hidden(ids, documents_bt=documents, mask=document_mask(documents))


def test_a_cap_bounds_scores_and_a_large_one_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, h, 9, 8, generator=generator) * 4 for h in (4, 2, 2))
    plain = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(capped_attention(q, k, v, None, 1e4), plain, rtol=1e-3, atol=1e-3)
    even = capped_attention(q, k, v, None, 1e-6)  # all scores are equal
    means = v.cumsum(2) / torch.arange(1, 10)[:, None]
    torch.testing.assert_close(even, means.repeat_interleave(2, dim=1), rtol=1e-4, atol=1e-5)


def test_logits_stay_within_their_cap() -> None:
    shape = VARIANTS["research"]
    shape = replace(shape, extras=replace(shape.extras, logit_cap=1.5))
    model, ids = random_decoder(shape), some_ids()
    with torch.no_grad():
        logits = model(ids)
        free = model.lm_head(model.hidden(ids)) * 0.5
    assert free.abs().max() > 2
    assert logits.abs().max() <= 1.5
    torch.testing.assert_close(logits, 1.5 * (free / 1.5).tanh())


def test_scaled_frequencies_reach_as_far_as_they_say() -> None:
    """The slowest turns by the factor less, the fastest as before."""
    plain, _ = rotary_frequencies(SHAPE, torch.device("cpu"))
    for kind, fastest in (("linear", 8.0), ("yarn", 1.0), ("llama3", 1.0)):
        rope = RopeScaling(kind=kind, factor=8.0, original=256)  # type: ignore[arg-type]
        turns, sharper = rotary_frequencies(
            replace(SHAPE, context=2048, rope=rope), torch.device("cpu")
        )
        ratio = plain / turns
        assert ratio[0] == pytest.approx(fastest, rel=1e-5)
        assert ratio[-1] == pytest.approx(8.0, rel=1e-5)
        assert (ratio.diff() > -1e-4).all()
        assert sharper == pytest.approx(1.2079 if kind == "yarn" else 1.0, abs=1e-4)
