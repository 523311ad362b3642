"""Modelmill's engine without a server: ``python -m`` this with the ``src`` folder of a Bento.

Reads a load a line (``load_targets.ProgramTarget``) and writes what it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.api.answers.loaded_model import LoadedModel
from serving.engine.sampling import SamplingParams
from serving.engine.served_folder import open_endpoint


async def answer_load(served: LoadedModel, load: dict[str, Any]) -> dict[str, Any]:
    """Answer all prompts of a load; tokens, wall and processor seconds, texts if asked for.

    Args:
        served: the loaded model.
        load: fields of ``RoundLoad``.
    """
    prompts = iter(list(enumerate([await served.prompts.encode_text(p) for p in load["prompts"]])))
    answers: list[Sequence[int]] = [()] * len(load["prompts"])

    async def stream() -> None:
        for index, prompt in prompts:
            sampling = SamplingParams(
                temperature=load["temperature"], top_p=load["top_p"], seed=load["seed"] + index
            )
            answer = served.engine.submit(prompt, sampling, load["tokens"])
            seen = 0
            while answer.finish_reason is None or seen < len(answer.tokens):
                await answer.wait_beyond(seen)
                seen = len(answer.tokens)
            answers[index] = answer.tokens

    began, processor = time.perf_counter(), time.process_time()
    await asyncio.gather(*(stream() for _ in range(load["streams"])))
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    texts = [b"".join(served.table[token] for token in answer).decode() for answer in answers]
    return {
        "tokens": sum(map(len, answers)),
        "seconds": seconds,
        "processor": used,
        "texts": texts if load.get("texts") else [],
    }


async def answer_lines(folder: Path) -> None:
    """Answer each line of standard input with a line."""
    served = open_endpoint(folder)
    _write({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _write(await answer_load(served, json.loads(line)))


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(answer_lines(Path(sys.argv[1])))
