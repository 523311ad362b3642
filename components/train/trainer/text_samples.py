"""Samples of a model's text while it trains, drawn from a generator of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.generate import generate

if TYPE_CHECKING:
    import tokenizers

    from models.decoder import Decoder

COUNT, LONGEST = 3, 64
TEMPERATURE = 0.8
SEED = 20_000


class Sampler:
    """Texts from the beginning of a document on; equal weights say equal things."""

    def __init__(self, model: Decoder, tokenizer: tokenizers.Tokenizer, eos: int) -> None:
        self._model, self._tokenizer, self._eos = model, tokenizer, eos

    def __call__(self) -> str:
        place = self._model.embed_tokens.weight.device
        longest = min(LONGEST, self._model.shape.context - 1)
        with torch.device(place):
            generator = torch.Generator(place).manual_seed(SEED)
            said = generate(
                self._model,
                [[self._eos]] * COUNT,
                max_new=longest,
                stop=self._eos,
                temperature=TEMPERATURE,
                generator=generator,
            )
        texts = [self._tokenizer.decode(one.tokens) for one in said]
        return "\n\n".join(f"[{number}]\n{text}" for number, text in enumerate(texts, 1)) + "\n"
