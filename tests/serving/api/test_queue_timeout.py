from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import httpx
import numpy as np
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel
from serving.engine.sampling import Logits
from tests.serving.memory_batch import MemoryBatch


class Endless(MemoryBatch):
    """Answers with one letter for ever, slowly."""

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        super().feed_rows(rows, pieces)
        return self._letters(len(rows))

    def step(self, tokens: Sequence[int]) -> Logits:
        time.sleep(0.02)
        super().step(tokens)
        return self._letters(len(tokens))

    def _letters(self, rows: int) -> Logits:
        logits = np.zeros((rows, self.vocabulary), dtype=np.float32)
        logits[:, 40] = 50
        return logits


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_waited_too_long_is_told_by_the_status(
    make_served: Callable[..., LoadedModel],
    tokenizer: ChatTokenizer,
    listening: Callable[..., AbstractContextManager[str]],
    stream: bool,
) -> None:
    size = tokenizer.vocabulary
    served = make_served(batch=lambda n: Endless(size, n), context=2000, slots=1, queue_seconds=0.2)
    body = {"model": "tiny", "prompt": "What?", "stream": True, "max_tokens": 1500}
    with listening(served) as address:
        url = f"{address}/completions"
        with httpx.stream("POST", url, json=body) as running:
            lines = running.iter_lines()  # kept: the stream closes with it
            next(lines)
            refused = httpx.post(url, json={**body, "stream": stream})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert served.engine.counts.refused == 1


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("completions", {"prompt": "What?"}),
        ("chat/completions", {"messages": [{"role": "user", "content": "What?"}]}),
        ("responses", {"input": "What?"}),
    ],
)
def test_a_full_queue_refuses_before_the_prompt_is_tokenized(
    make_served: Callable[..., LoadedModel],
    tokenizer: ChatTokenizer,
    listening: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    asked: dict[str, object],
) -> None:
    size = tokenizer.vocabulary
    served = make_served(batch=lambda n: Endless(size, n), context=2000, slots=1, queue=0)
    body = {"model": "tiny", "prompt": "What?", "stream": True, "max_tokens": 1500}
    with listening(served) as address:
        with httpx.stream("POST", f"{address}/completions", json=body) as running:
            lines = running.iter_lines()  # kept: the stream closes with it
            next(lines)
            tokenized: list[object] = []
            monkeypatch.setattr(served.prompts, "_run", tokenized.append)
            refused = httpx.post(f"{address}/{path}", json={"model": "tiny", **asked})
        assert refused.status_code == 429
        assert not tokenized
        assert served.engine.counts.refused == 1
