"""Request of OpenAI's responses interface, which is read as a chat request.

Nothing is stored, so what refers to an earlier response is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from serving.api.error_responses import ApiError
from serving.api.request_body import FORM_ERROR, parse_fields
from serving.api.request_fields import is_equal_json
from serving.api.request_schema import ChatRequest, StrictModel
from serving.constrain.tool_fields import ToolName

NEUTRAL_RESPONSES_FIELDS: dict[str, tuple[Any, ...]] = {
    name: (None, *values)
    for name, values in {
        "previous_response_id": (),
        "conversation": (),
        "background": (False,),
        "include": ([],),
        "reasoning": ({},),
        "truncation": ("disabled",),
        "prompt": (),
        "max_tool_calls": (),
        "top_logprobs": (0,),
        "context_management": ([],),
    }.items()
}
"""Fields that are not served -> values that ask for nothing."""
_NOTHING_STORED = "no response is stored"
_REASONS = {
    "previous_response_id": _NOTHING_STORED,
    "conversation": _NOTHING_STORED,
    "background": "each response is answered at once, and none is stored",
    "include": "a response has nothing more that could be included",
    "reasoning": "the model writes no reasoning apart from its answer",
    "truncation": "an input that does not fit the context is refused, never shortened",
    "prompt": "no prompt templates are stored",
    "max_tool_calls": "no tools run here; calls are answered for the client to make",
    "top_logprobs": "log probabilities are those of chat/completions alone",
    "context_management": "an input is read as it is, never compacted",
}
"""Field that is not served -> why."""
CHAT_PLACES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema.": "text.format.",
    "response_format": "text.format",
    "messages": "input",
}
"""Fields of the chat request -> those of this one, for errors."""


class AnswerTextFormat(StrictModel):
    """``text.format``."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    def chat_format(self) -> dict[str, Any]:
        """``response_format`` of chat."""
        if self.type != "json_schema":
            return {"type": self.type}
        fields = {"name": self.name, "schema": self.schema_, "strict": self.strict}
        given = {name: value for name, value in fields.items() if value is not None}
        return {"type": self.type, "json_schema": given}


class AnswerTextOptions(StrictModel):
    """``text``."""

    format: AnswerTextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseTool(StrictModel):
    """A function of ``tools``."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def chat_tool(self) -> dict[str, Any]:
        """The tool as chat has it."""
        function = self.model_dump(exclude={"type"}, exclude_none=True)
        return {"type": "function", "function": function}


def _read_input(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and value):
        return value
    raise PydanticCustomError(
        FORM_ERROR, "expected {form}", {"form": "a string or an array of items"}
    )


class ResponsesRequest(StrictModel):
    """POST /responses."""

    model: str
    input: Annotated[
        Any,
        PlainValidator(_read_input),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}),
    ]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(allow_inf_nan=True, ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(allow_inf_nan=True, gt=0, le=1)] | None = None
    text: AnswerTextOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    """Nothing is stored, whatever it says."""

    def chat_request(self) -> ChatRequest:
        """The chat request that asks the same.

        Raises:
            ApiError: 400, with the field.
        """
        messages = _read_messages(self.input)
        if self.instructions:
            messages.insert(0, {"role": "system", "content": self.instructions})
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": [tool.chat_tool() for tool in self.tools or ()] or None,
            "tool_choice": _read_tool_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
        }
        if self.text is not None and self.text.format is not None:
            fields["response_format"] = self.text.format.chat_format()
        return parse_fields(ChatRequest, fields)


def drop_neutral_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """A body without the fields that are not served and ask for nothing.

    Raises:
        ApiError: 400: one of them asks for something.
    """
    for name, values in NEUTRAL_RESPONSES_FIELDS.items():
        value = fields.get(name)
        if not any(is_equal_json(value, neutral) for neutral in values):
            raise ApiError(
                400,
                f"Unsupported parameter: '{name}' is not served here: {_REASONS[name]}; leave it "
                "out.",
                param=name,
                code="unsupported_parameter",
            )
    return {name: value for name, value in fields.items() if name not in NEUTRAL_RESPONSES_FIELDS}


def _read_tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.keys() == {"type", "name"}:
        return {"type": choice["type"], "function": {"name": choice["name"]}}
    return choice


def _read_messages(items: Any) -> list[dict[str, Any]]:
    """Messages of chat; calls that follow each other are one assistant's turn."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    messages: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "message":
            messages.append(
                {
                    "role": item.get("role"),
                    "content": _read_content(item.get("content"), f"input[{at}].content"),
                }
            )
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if not (messages and messages[-1].get("tool_calls")):
                messages.append({"role": "assistant", "content": None, "tool_calls": []})
            messages[-1]["tool_calls"].append(call)
        elif kind == "function_call_output":
            content = _read_content(item.get("output"), f"input[{at}].output")
            called = {"tool_call_id": item.get("call_id"), "content": content}
            messages.append({"role": "tool", **called})
        else:
            raise ApiError(
                400,
                f"Invalid 'input[{at}]': expected a message, a function_call or a "
                "function_call_output.",
                param=f"input[{at}]",
                code="invalid_value",
            )
    return messages


def _read_content(content: Any, place: str) -> Any:
    """Text parts under chat's name."""
    if not isinstance(content, list):
        return content
    for at, part in enumerate(content):
        kinds = ("input_text", "output_text", "text")
        if not isinstance(part, dict) or part.get("type") not in kinds:
            raise ApiError(
                400,
                f"Invalid '{place}[{at}]': expected an input_text part.",
                param=f"{place}[{at}]",
                code="invalid_value",
            )
    return [{"type": "text", "text": part.get("text")} for part in content]
