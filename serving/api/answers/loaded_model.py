"""One loaded model with all that its requests need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from serving.adapters.adapter_index import AdapterEntry
from serving.api.answers.logprob_format import TokenTexts
from serving.api.limits import EndpointLimits
from serving.constrain.constraint_factory import ConstraintFactory
from serving.constrain.tool_call_form import ToolCallForm, find_tool_call_form
from serving.engine.batching_engine import Engine
from serving.engine.prompt_encoder import PromptEncoder
from serving.engine.text_embedder import TextEmbedder


@dataclass(frozen=True)
class LoadedModel:
    """One model, loaded and ready to answer."""

    model: str
    """The name that requests ask for."""
    created: int
    """Unix seconds."""
    fingerprint: str
    """Names weights, form and engine: equal seeds give equal answers under one fingerprint."""
    prompts: PromptEncoder
    table: Sequence[bytes]
    """The bytes of each token."""
    engine: Engine
    limits: EndpointLimits
    version: str = ""
    """Of the registered model."""
    adapters: Sequence[AdapterEntry] = ()
    """In the order of their numbers, from 1 on."""
    embedder: TextEmbedder | None = None
    """Gives vectors of texts; None where the graph gives no states."""

    @cached_property
    def adapter_numbers(self) -> dict[str, int]:
        """Name of an adapter -> its number."""
        return {adapter.name: number for number, adapter in enumerate(self.adapters, start=1)}

    def fingerprint_of(self, name: str) -> str:
        """Fingerprint of the base, or of an adapter over it."""
        number = self.adapter_numbers.get(name, 0)
        adapter = f"-{self.adapters[number - 1].digest[:12]}" if number else ""
        return self.fingerprint + adapter

    @cached_property
    def texts(self) -> TokenTexts:
        """Texts of single tokens."""
        return TokenTexts(self.table, self.prompts.tokenizer.special_tokens)

    @cached_property
    def constraints(self) -> ConstraintFactory:
        """Compiles what constrains answers."""
        return ConstraintFactory(self.table, self.engine.stops, self.prompts.tokenizer.encode_text)

    @cached_property
    def tool_call_form(self) -> ToolCallForm | None:
        """Form in which the model's template writes calls of tools."""
        return find_tool_call_form(self.prompts.tokenizer)
