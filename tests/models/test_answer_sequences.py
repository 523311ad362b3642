from __future__ import annotations

import torch

from models.answer_sequences import answer_log_probs, join_answers, token_entropies, token_log_probs
from models.decoder import Decoder
from models.shape import DecoderShape

PROMPTS, ANSWERS = [[1, 2, 3], [4]], [[5, 6], [7, 8, 9, 10]]


def test_answers_are_found_behind_their_prompts() -> None:
    batch = join_answers(PROMPTS, ANSWERS)
    assert batch.ids_bt.tolist() == [[1, 2, 3, 5, 6], [4, 7, 8, 9, 10]]
    assert batch.mask_ba.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.answers_n.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.spread(batch.answers_n).tolist() == [[5, 6, 0, 0], [7, 8, 9, 10]]
    rows, positions = batch.places
    assert positions.tolist() == [2, 3, 0, 1, 2, 3]
    assert rows.tolist() == [0, 0, 1, 1, 1, 1]


def test_picked_rows_lose_the_padding_of_others() -> None:
    batch = join_answers([*PROMPTS, [1]], [*ANSWERS, [2]])
    picked = batch.pick(torch.tensor([2]))
    assert picked.ids_bt.tolist() == [[1, 2]]
    assert picked.answers_n.tolist() == [2]


def test_scores_of_a_batch_are_those_of_each_row_alone() -> None:
    torch.manual_seed(0)
    shape = DecoderShape(
        vocabulary=16, width=16, layers=1, heads=2, kv_heads=1, head_width=8, hidden=32
    )
    model = Decoder(shape)
    with torch.no_grad():
        batch = join_answers(PROMPTS, ANSWERS)
        together = batch.spread(token_log_probs(answer_log_probs(model, batch), batch.answers_n))
        for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
            scores = model(torch.tensor([prompt + answer]))[0].log_softmax(-1)
            alone = [scores[len(prompt) - 1 + i, token] for i, token in enumerate(answer)]
            assert torch.allclose(together[row, : len(answer)], torch.stack(alone), atol=1e-5)


def test_entropy_of_a_uniform_distribution_is_its_logarithm() -> None:
    scores = torch.full((1, 8), 1 / 8).log()
    assert torch.allclose(token_entropies(scores), torch.tensor([8.0]).log())
