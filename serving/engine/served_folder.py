"""Folder that can be served: layout and loading.

endpoint.json        name, form, digests, limits
bundle/<form>/       the ONNX graph
bundle/tokenizer.json
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.endpoint_settings import adapters_folder, endpoint_limit_overrides
from components.core.errors import DataError
from components.core.log import get_logger
from components.core.store.artifact import digest_value
from components.core.thread_settings import thread_count
from components.export.onnx.cache_memory import check_cache_memory, longest_context
from components.export.onnx.decoding_threads import DecodingThreads, ThreadTunedBatch
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.token_bytes import token_bytes
from components.text.chat.tokenizer_files import TOKENIZER_FILE, tokenizer_digest
from serving.adapters.adapter_index import AdapterEntry, read_adapter_index
from serving.api.answers.loaded_model import LoadedModel
from serving.api.limits import EndpointLimits, override_limits
from serving.engine.batching_engine import Engine
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.text_embedder import TextEmbedder

log = get_logger(__name__)

ENDPOINT_FILE, BUNDLE_FOLDER, GRAPH_FILE = "endpoint.json", "bundle", "model.onnx"
_FINGERPRINT_DIGITS = 12
"""Hexadecimal: 48 bits, as a Bento's version has."""


class Endpoint(BaseModel):
    """Content of ``endpoint.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """The registered model's name; requests ask for it."""
    version: str
    bundle: str
    """Digest of the bundle."""
    tokenizer: str = ""
    """Digest of the tokenizer that the model was trained with; empty where none was recorded."""
    form: str
    """``onnx-int8`` or ``onnx``."""
    engine: str = ""
    """Digest of the packed code and its pins; empty in Bentos that were packed without it."""
    created: int
    """Unix seconds."""
    limits: EndpointLimits

    @property
    def fingerprint(self) -> str:
        """Names all that a seed's text hangs on: weights, their form, engine and its packages."""
        if not self.engine:
            return self.bundle[:_FINGERPRINT_DIGITS]
        computed = {"bundle": self.bundle, "form": self.form, "engine": self.engine}
        return digest_value(computed)[:_FINGERPRINT_DIGITS]


def read_endpoint(folder: Path) -> Endpoint:
    """Read a folder's ``endpoint.json``.

    Raises:
        DataError: it is not one that ``package`` made.
    """
    try:
        return Endpoint.model_validate_json((folder / ENDPOINT_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{folder}: {ENDPOINT_FILE} cannot be read: {error}") from error


def open_endpoint(folder: Path) -> LoadedModel:
    """Load graph and tokenizer (half a second for a small model).

    Raises:
        ConfigError: MODELMILL_THREADS, MODELMILL_SPIN or MODELMILL_ENDPOINT_LIMITS says nothing of
            use, the context that the limits ask for is longer than the model's, or the memory does
            not hold it.
        DataError: a file is missing or damaged, or the tokenizer is not that of the model.
    """
    endpoint = read_endpoint(folder)
    limits = override_limits(endpoint.limits, endpoint_limit_overrides())
    bundle = folder / BUNDLE_FOLDER
    tokenizer = open_tokenizer(bundle)
    if endpoint.tokenizer and tokenizer_digest(bundle) != endpoint.tokenizer:
        raise DataError(
            f"{bundle}: {TOKENIZER_FILE} is not the tokenizer {endpoint.tokenizer[:12]} that "
            f"{endpoint.model} version {endpoint.version} was trained with: package it again"
        )
    adapted = adapters_folder()
    adapters: tuple[AdapterEntry, ...] = ()
    if adapted is not None:
        adapters = read_adapter_index(adapted, endpoint.bundle, endpoint.form).adapters
    model = OnnxModel((adapted or bundle / endpoint.form) / GRAPH_FILE, 1)
    context = _served_context(model, limits)
    threads = DecodingThreads(model, limits.threads or thread_count(), slots=limits.slots)
    threads.start()
    # A vocabulary may be padded beyond the tokenizer's; those tokens have no text.
    table = token_bytes(tokenizer)
    table += [b""] * (model.vocabulary - len(table))
    engine = Engine(
        _batch_maker(model, threads, context),
        context,
        frozenset(tokenizer.stop_ids),
        limits,
    )
    return LoadedModel(
        model=endpoint.model,
        created=endpoint.created,
        fingerprint=endpoint.fingerprint,
        prompts=PromptEncoder(tokenizer, table, context, limits.queue),
        table=table,
        engine=engine,
        limits=limits,
        adapters=adapters,
        version=endpoint.version,
        embedder=TextEmbedder(
            lambda: _open_states_batch(model, threads, context), model.width, limits.queue
        ),
    )


def _open_states_batch(model: OnnxModel, threads: DecodingThreads, context: int) -> RaggedBatch:
    """A batch of one row that computes in its caller's thread alone.

    Args:
        model: the graph.
        threads: the tuner, which changes the model's session meanwhile.
        context: tokens of the row.
    """
    single = copy(model)
    if threads.threads != 1:  # others would work for the engine's answers and for texts alike
        single.use(model.open(1))
    return RaggedBatch(single, 1, context)


def _batch_maker(
    model: OnnxModel, threads: DecodingThreads, context: int
) -> Callable[[int], ThreadTunedBatch]:
    """Maker of an empty batch; the same one, emptied, where it is asked again for as many slots.

    An engine asks again when the model failed, and the memory may not hold two caches.
    """
    batches: dict[int, ThreadTunedBatch] = {}

    def make_batch(slots: int) -> ThreadTunedBatch:
        batch = batches.get(slots)
        if batch is None:
            batch = batches[slots] = ThreadTunedBatch(model, threads, context, slots)
        for row in reversed(range(len(batch))):
            batch.leave(row)
        return batch

    return make_batch


def _served_context(model: OnnxModel, limits: EndpointLimits) -> int:
    """Most tokens of a prompt with its answer, checked before anything is measured.

    Raises:
        ConfigError: it is longer than the model's, or the memory does not hold it.
    """
    if limits.context is not None:
        check_cache_memory(model, limits.slots, limits.context)
        return limits.context
    context = longest_context(model, limits.slots)
    if context < model.context:
        log.warning(
            "the memory holds a context of %d tokens for %d slots, not the model's %d: with fewer "
            "slots it is longer",
            context,
            limits.slots,
            model.context,
        )
    return context
