"""Text samples of a model in training, drawn from a generator of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.generate import generate_answers

if TYPE_CHECKING:
    from components.text.chat.chat_tokenizer import ChatTokenizer
    from models.decoder import Decoder

SAMPLE_COUNT, SAMPLE_TOKENS = 3, 64
TEMPERATURE = 0.8
SAMPLE_SEED = 20_000


class TextSampler:
    """Sampler of texts from the beginning of a document on; equal weights give equal texts."""

    def __init__(self, model: Decoder, tokenizer: ChatTokenizer, eos: int) -> None:
        self._model, self._tokenizer, self._eos = model, tokenizer, eos

    def __call__(self) -> str:
        device = self._model.embed_tokens.weight.device
        longest = min(SAMPLE_TOKENS, self._model.shape.context - 1)
        with torch.device(device):
            generator = torch.Generator(device).manual_seed(SAMPLE_SEED)
            samples = generate_answers(
                self._model,
                [[self._eos]] * SAMPLE_COUNT,
                max_new=longest,
                stop_ids=(self._eos,),
                temperature=TEMPERATURE,
                generator=generator,
            )
        texts = [self._tokenizer.decode(sample.tokens) for sample in samples]
        return "\n\n".join(f"[{number}]\n{text}" for number, text in enumerate(texts, 1)) + "\n"
