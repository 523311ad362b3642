"""The folder in transformers and the endpoint over its graph give equal answers.

Both are used as their users do: messages in, text out, nothing set by hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from components.export.hf.export_hf import save_chat_settings, save_hf
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.served_graph import served_graph
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from models.decoder import Decoder
from models.shape import DecoderShape
from serving.api.limits import EndpointLimits
from serving.engine.served_folder import Endpoint, open_endpoint

transformers = pytest.importorskip("transformers", reason="a development dependency")

Listen = Callable[..., AbstractContextManager[str]]
Message = dict[str, Any]
SHAPE = DecoderShape(304, 64, 2, 4, 2, 16, 128, 256)
ANSWERS = {
    "dumps": "Serialize to a str.",
    "loads": "Größe <|user|> 日本.",
    "open": "",
    "Path": "The file, then the obj",
    "list": "Write it.\nWrite it.",
    "zip": "a",
    "sort": "Then it is JSON formatted, then the file.",
}
PROMPTS, STEPS = 200, 80


def conversation(draw: random.Random) -> list[Message]:
    """Ragged, of four roles, in parts, with null and with forged turns."""
    messages: list[Message] = []
    if draw.random() < 0.4:
        messages.append({"role": draw.choice(("system", "developer")), "content": "Be brief."})
    for _ in range(draw.choice((0, 0, 1, 2))):
        messages.append({"role": "user", "content": draw.choice(("", "Why?", "<|end|>"))})
        answer = draw.choice((None, "So.", [{"type": "text", "text": "It is."}]))
        messages.append({"role": "assistant", "content": answer})
    filler = "please " * draw.randrange(8)
    parts = [f"{filler}What does ", draw.choice(list(ANSWERS)), draw.choice(("?", " do?<|user|>"))]
    whole: Any = "".join(parts)
    if draw.random() < 0.4:
        whole = [{"type": "text", "text": part} for part in parts]
    return [*messages, {"role": "user", "content": whole}]


def expected_answer(messages: Sequence[Message]) -> str:
    """What the model is taught to say."""
    asked = str(messages[-1]["content"])
    return next(answer for word, answer in ANSWERS.items() if word in asked)


@pytest.fixture(scope="module")
def taught(tokenizer: ChatTokenizer) -> Decoder:
    """A small model sure of its answers, so that no near tie decides a token."""
    torch.manual_seed(0)
    draw = random.Random(1)
    model = Decoder(SHAPE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(STEPS):
        asked = [conversation(draw) for _ in range(16)]
        prompts = [tokenizer.encode_prompt(messages) for messages in asked]
        answers = [
            [*tokenizer.encode_text(expected_answer(messages)), *tokenizer.answer_end_ids]
            for messages in asked
        ]
        rows = [torch.tensor(p + a) for p, a in zip(prompts, answers, strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        targets = torch.full_like(ids, -100)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            end = len(prompt) + len(answer)
            targets[row, len(prompt) - 1 : end - 1] = ids[row, len(prompt) : end]
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def hf_folder(taught: Decoder, tokenizer: ChatTokenizer, tmp_path_factory: Any) -> Path:
    """What ``export_hf`` writes of it, greedy."""
    source, folder = tmp_path_factory.mktemp("tokenizer"), tmp_path_factory.mktemp("hf")
    tokenizer.backend.save(str(source / "tokenizer.json"))
    open_tokenizer(source).backend.save(str(folder / "tokenizer.json"))
    words = open_tokenizer(folder)
    save_hf(folder, taught, tokenizer=words)
    save_chat_settings(folder, words, taught.shape.context, temperature=0.0)
    return folder


@pytest.fixture(scope="module")
def endpoint_folder(
    taught: Decoder, tokenizer: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``package`` serves of it, greedy."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "bundle" / "onnx").mkdir(parents=True)
    save_graph(served_graph(weights_of(taught)), folder / "bundle/onnx/model.onnx")
    tokenizer.backend.save(str(folder / "bundle/tokenizer.json"))
    endpoint = Endpoint(
        model="tiny",
        version="1",
        bundle="f00d",
        form="onnx",
        created=1,
        limits=EndpointLimits(slots=8, threads=1, temperature=0.0),
    )
    (folder / "endpoint.json").write_text(endpoint.model_dump_json())
    return folder


def test_200_ragged_conversations(
    hf_folder: Path, endpoint_folder: Path, listening: Listen
) -> None:
    draw = random.Random(2)
    asked = [conversation(draw) for _ in range(PROMPTS)]
    assert {message["role"] for messages in asked for message in messages} == {
        "system",
        "developer",
        "user",
        "assistant",
    }

    fast = transformers.AutoTokenizer.from_pretrained(hf_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(hf_folder)
    batch = fast.apply_chat_template(
        asked, add_generation_prompt=True, padding=True, return_tensors="pt"
    )
    written = model.generate(**batch)[:, batch["input_ids"].shape[1] :]
    loaded = fast.batch_decode(written, skip_special_tokens=True)

    def ask(messages: list[Message]) -> tuple[str, int]:
        body = {"model": "tiny", "messages": messages}
        reply = client.post(f"{address}/chat/completions", json=body).json()
        choice = reply["choices"][0]
        assert choice["finish_reason"] == "stop"
        return choice["message"]["content"], reply["usage"]["prompt_tokens"]

    with (
        listening(open_endpoint(endpoint_folder)) as address,
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        served = list(pool.map(ask, asked))
    assert [text for text, _ in served] == loaded
    assert [length for _, length in served] == batch["attention_mask"].sum(1).tolist()
    assert len(set(loaded)) >= len(ANSWERS)
    assert sum(map(str.__eq__, loaded, map(expected_answer, asked))) > PROMPTS / 2  # it learnt
