"""onnxruntime-genai without a server: ``python`` this FOLDER.

Reads a load a line and writes what it took, as ``node_llama.mjs`` does. A generator decodes a batch
of answers that begin and end together; genai joins none to a running one. So a load is answered in
groups of as many as there are streams. Prompts of a group have one length.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
from numpy.typing import NDArray

Ids = NDArray[np.int32]


class GenaiEngine:
    """A loaded model, and its answers to loads."""

    def __init__(self, folder: str) -> None:
        self.model = genai.Model(folder)
        self.tokenizer = genai.Tokenizer(self.model)
        config = json.loads(Path(folder, "genai_config.json").read_text(encoding="utf-8"))
        self.separator = config["model"]["bos_token_id"]

    def answer_load(self, load: dict[str, Any]) -> dict[str, Any]:
        """Tokens, wall and processor seconds of a load, and its texts if it asks for them."""
        prompts = [
            np.array([self.separator, *self.tokenizer.encode(text)], dtype=np.int32)
            for text in load["prompts"]
        ]
        answers: list[list[int]] = []
        began, processor = time.perf_counter(), time.process_time()
        for start in range(0, len(prompts), load["streams"]):
            answers += self.answer_group(prompts[start : start + load["streams"]], load)
        seconds, used = time.perf_counter() - began, time.process_time() - processor
        texts = [self.tokenizer.decode(np.array(answer, dtype=np.int32)) for answer in answers]
        total = sum(map(len, answers))
        return {
            "tokens": total,
            "seconds": seconds,
            "processor": used,
            "texts": texts if load.get("texts") else [],
        }

    def answer_group(self, prompts: list[Ids], load: dict[str, Any]) -> list[list[int]]:
        """Tokens of answers that are decoded together.

        Args:
            prompts: token ids of each, all of one length.
            load: length and sampling.
        """
        width = max(map(len, prompts))
        params = genai.GeneratorParams(self.model)
        sampling = (
            {"do_sample": True, "temperature": load["temperature"], "top_p": load["top_p"]}
            | {"top_k": 0, "random_seed": load["seed"]}
            if load["temperature"] > 0
            else {"do_sample": False}
        )
        length = width + load["tokens"]
        params.set_search_options(
            batch_size=len(prompts), max_length=length, min_length=length, **sampling
        )
        generator = genai.Generator(self.model, params)
        assert all(len(prompt) == width for prompt in prompts)
        generator.append_tokens(np.concatenate(prompts))
        for _ in range(load["tokens"]):
            generator.generate_next_token()
        return [
            [int(token) for token in generator.get_sequence(row)[width:]]
            for row in range(len(prompts))
        ]


def main() -> None:
    engine = GenaiEngine(sys.argv[1])
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(engine.answer_load(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
