"""Fields of chat requests that offer tools, as OpenAI names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from serving.api.error_responses import ApiError
from serving.constrain.schema_keywords import invalid_value

MAX_TOOLS = 128
"""OpenAI's bound."""
ToolName = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class _ToolModel(BaseModel):
    """JSON's own types alone, and no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ToolFunction(_ToolModel):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments; left out for none."""
    strict: bool | None = None
    """A schema that cannot be held in full is refused; else it is held as far as it can be."""


class ToolField(_ToolModel):
    """An item of ``tools``."""

    type: Literal["function"]
    function: ToolFunction


_CHOICES = ("none", "auto", "required")
_CHOICE_SCHEMA = {
    "anyOf": [
        {"enum": [*_CHOICES, None]},
        {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
            "required": ["type", "function"],
            "additionalProperties": False,
        },
    ]
}


@dataclass(frozen=True)
class NamedTool:
    """The tool that is to be called."""

    name: str


def _read_choice(choice: Any) -> Any:
    if choice is None or (isinstance(choice, str) and choice in _CHOICES):
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and choice == {"type": "function", "function": {"name": name}}:
        return NamedTool(name)
    raise PydanticCustomError("tool_choice", "expected none, auto, required or a named function")


class ToolFields(_ToolModel):
    """Tools of a request."""

    tools: Annotated[list[ToolField], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[
        Any,
        PlainValidator(_read_choice),
        WithJsonSchema(_CHOICE_SCHEMA),
    ] = None
    parallel_tool_calls: bool | None = None

    @property
    def offered_tools(self) -> list[ToolField]:
        """Tools that the model is told of; none where it shall call none."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def callable_tools(self) -> list[ToolField]:
        """Tools that may be called: the named one alone, where one is named."""
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.name
            return [tool for tool in self.offered_tools if tool.function.name == name]
        return self.offered_tools

    @property
    def forces_call(self) -> bool:
        """The answer is a call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    def check_tools(self) -> None:
        """Refuse a choice among tools that are not there, and names that stand twice.

        Raises:
            ApiError: 400, with the field.
        """
        names = [tool.function.name for tool in self.tools or ()]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise invalid_value(f"tools[{at}].function.name", f"'{name}' stands twice")
        if self.forces_call and not self.callable_tools:
            raise invalid_value("tool_choice", "it asks for a tool that 'tools' does not have")

    def describe_tools(self) -> list[dict[str, Any]]:
        """Tools as a chat template writes them: the fields that the request gave."""
        return [tool.model_dump(exclude_unset=True) for tool in self.offered_tools]


def no_tools_error() -> ApiError:
    """400: the model's template knows no tools."""
    return ApiError(
        400,
        "Unsupported parameter: 'tools' is not served here: this model's chat template writes no "
        "tool calls; leave it out, or serve a model that was trained with tools.",
        param="tools",
        code="unsupported_parameter",
    )
