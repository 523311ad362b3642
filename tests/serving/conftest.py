"""A small tokenizer, an engine over the in-memory twin, and the endpoint on a real socket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.chat.token_bytes import token_bytes
from components.text.chat.tokenizer_files import drop_guards
from serving.api.answers.loaded_model import LoadedModel
from serving.api.limits import EndpointLimits
from serving.api.openai_endpoint import create_app
from serving.engine.batching_engine import Engine
from serving.engine.decoding_batch import DecodingBatch
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.served_folder import Endpoint
from serving.engine.text_embedder import TextEmbedder
from tests.serving.memory_batch import MemoryBatch, MemoryStates
from tests.serving.server_thread import serve_in_thread

TEXT = ["Serialize obj to a JSON formatted str, then write it to the file."]


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    """Byte-level BPE, as ``train_tokenizer`` makes it, with hardly any merges."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    return ChatTokenizer(drop_guards(made))


MakeServed = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def make_served(tokenizer: ChatTokenizer) -> MakeServed:
    """A served twin: ``make_served(batch=…, context=…, slots=…)``."""

    def make(
        batch: Callable[[int], DecodingBatch] | None = None, context: int = 64, **limits: float
    ) -> LoadedModel:
        bounds = EndpointLimits.model_validate({"slots": 4, **limits})
        size = tokenizer.vocabulary
        engine = Engine(
            batch or (lambda slots: MemoryBatch(size, slots)),
            context,
            frozenset(range(len(HOUSE_TOKENS))),
            bounds,
        )
        table = token_bytes(tokenizer)
        prompts = PromptEncoder(tokenizer, table, context, bounds.queue)
        embedder = TextEmbedder(MemoryStates, MemoryStates.width, bounds.queue)
        return LoadedModel("tiny", 1, "f00d", prompts, table, engine, bounds, embedder=embedder)

    return make


Listen = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def listening() -> Listen:
    """``with listening(served, api_key=…) as address``: the endpoint on a real socket."""
    return _listening


@contextmanager
def _listening(served: LoadedModel, api_key: str | None = None) -> Iterator[str]:
    """The endpoint on a loopback port of its own; yields its base address."""
    app = create_app(served, api_key)

    async def below_prefix(scope: Scope, receive: Receive, send: Send) -> None:
        """As the server's own application hands requests on."""
        await app({**scope, "root_path": "/v1"}, receive, send)

    config = uvicorn.Config(below_prefix, log_level="error", lifespan="off", access_log=False)
    with serve_in_thread(config) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder with random weights, saved."""
    import torch

    from components.text.decoder_files import save_model
    from models.decoder import Decoder
    from models.shape import DecoderShape

    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(3)
    model = Decoder(DecoderShape(vocabulary=304, width=64, layers=2, hidden=96, context=96))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    save_model(folder, model)
    return folder


@pytest.fixture(scope="session")
def bundle_files(
    decoder_folder: Path, tokenizer: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the bundle stage makes, as far as it can be served."""
    from components.export.onnx.graph_builder import save_graph, weights_of
    from components.export.onnx.served_graph import served_graph
    from components.text.decoder_files import load_model

    folder = tmp_path_factory.mktemp("bundle")
    (folder / "onnx").mkdir()
    save_graph(served_graph(weights_of(load_model(decoder_folder))), folder / "onnx/model.onnx")
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    (folder / "bundle.json").write_text('{"forms": {"onnx": {"passes": true}}}')
    return folder


@pytest.fixture
def served(bundle_files: Path, tmp_path: Path) -> Path:
    """A folder that ``open_endpoint`` opens."""
    folder = tmp_path / "served"
    shutil.copytree(bundle_files, folder / "bundle")
    endpoint = Endpoint(
        model="tiny",
        version="1",
        bundle="f00d",
        form="onnx",
        created=1,
        limits=EndpointLimits(slots=4),
    )
    (folder / "endpoint.json").write_text(endpoint.model_dump_json())
    return folder
