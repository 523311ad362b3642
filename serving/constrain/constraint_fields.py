"""Fields of requests that constrain an answer: OpenAI's, vLLM's and llama.cpp's names for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from serving.api.error_responses import ApiError
from serving.constrain.grammar_source import (
    GrammarSource,
    any_object_source,
    choice_source,
    grammar_source,
    json_source,
    regex_source,
)
from serving.constrain.schema_keywords import invalid_value

_SCHEMA_OR_TEXT = {"anyOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}]}


def _check_schema_type(schema: Any) -> Any:
    if schema is None or isinstance(schema, dict | str):
        return schema
    raise PydanticCustomError("dict_type", "a schema is an object, or JSON in a text")


SchemaOrText = Annotated[Any, PlainValidator(_check_schema_type), WithJsonSchema(_SCHEMA_OR_TEXT)]
"""A JSON schema as an object or, as vLLM takes it too, as JSON in a text."""


class _FormatModel(BaseModel):
    """JSON's own types alone, and no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class NamedSchema(_FormatModel):
    """``response_format.json_schema``."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    """A schema that cannot be held in full is refused; else it is held as far as it can be."""


class AnswerFormat(_FormatModel):
    """``response_format``."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    """llama.cpp's place of a schema."""

    def grammar_source(self) -> GrammarSource | None:
        """The constraint; None for free text.

        Raises:
            ApiError: 400, with the field.
        """
        nested = None if self.json_schema is None else self.json_schema.schema_
        if None not in (self.schema_, nested) and self.schema_ != nested:
            raise invalid_value(
                "response_format.schema", "it contradicts 'response_format.json_schema.schema'"
            )
        if self.type == "text":
            return None
        if self.type == "json_schema" and self.json_schema is None and self.schema_ is None:
            raise _missing("response_format.json_schema")
        if self.json_schema is not None and self.type == "json_schema":
            if self.json_schema.schema_ is None:
                raise _missing("response_format.json_schema.schema")
            return json_source(
                self.json_schema.schema_,
                "response_format.json_schema.schema",
                strict=self.json_schema.strict is True,
            )
        if self.schema_ is not None:
            return json_source(self.schema_, "response_format.schema", strict=False)
        return any_object_source("response_format")


class StructuredOutputs(_FormatModel):
    """vLLM's ``structured_outputs``."""

    json_: Annotated[SchemaOrText, Field(alias="json")] = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None
    """There is none outside of texts in any case."""

    def grammar_sources(self) -> list[GrammarSource]:
        """All constraints that are named."""
        place = "structured_outputs"
        sources = _read_sources(
            {
                f"{place}.json": (json_source, self.json_),
                f"{place}.regex": (regex_source, self.regex),
                f"{place}.choice": (choice_source, self.choice),
                f"{place}.grammar": (grammar_source, self.grammar),
            }
        )
        return [*sources, *([any_object_source(place)] if self.json_object else [])]


class ConstraintFields(_FormatModel):
    """Fields of a request that constrain its answer; at most one of them."""

    response_format: AnswerFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaOrText = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    """Lark's syntax, or llama.cpp's GBNF."""
    json_schema: dict[str, Any] | None = None
    """llama.cpp's."""
    grammar: str | None = None
    """llama.cpp's: GBNF, or Lark's syntax behind ``%llguidance``."""

    def constraint_source(self) -> GrammarSource | None:
        """The constraint of the answer; None where no field names one.

        Raises:
            ApiError: 400, with the field: two of them, or one that cannot be held.
        """
        sources = _read_sources(
            {
                "guided_json": (json_source, self.guided_json),
                "guided_regex": (regex_source, self.guided_regex),
                "guided_choice": (choice_source, self.guided_choice or None),
                "guided_grammar": (grammar_source, self.guided_grammar),
                "json_schema": (json_source, self.json_schema),
                "grammar": (grammar_source, self.grammar or None),
            }
        )
        if self.structured_outputs is not None:
            sources += self.structured_outputs.grammar_sources()
        formatted = None if self.response_format is None else self.response_format.grammar_source()
        sources += [formatted] if formatted is not None else []
        if len(sources) > 1:
            first, second = sources[0].place, sources[1].place
            raise invalid_value(second, f"an answer has one constraint, and '{first}' is another")
        return sources[0] if sources else None


def _read_sources(
    fields: dict[str, tuple[Callable[[Any, str], GrammarSource], Any]],
) -> list[GrammarSource]:
    return [make(value, place) for place, (make, value) in fields.items() if value is not None]


def _missing(place: str) -> ApiError:
    return ApiError(
        400,
        f"Missing required parameter: '{place}'.",
        param=place,
        code="missing_required_parameter",
    )
