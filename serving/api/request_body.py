"""Body of a request, from bytes to a checked model, with errors in OpenAI's words.

The body is JSON whatever its content type says, as curl's ``-d`` sends it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Container, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serving.api.error_responses import ApiError
from serving.api.request_fields import NEUTRAL_VALUES, NO_EFFECT, is_neutral

MAX_DEPTH = 64
"""Levels of a body: a schema of a tool has some ten, and a template or encoder that walks deeper
values would meet Python's limit of recursion."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_TYPES = {
    dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer",
    float: "a decimal", type(None): "null",
}  # fmt: skip
_EXPECTED = {
    "string": "a string", "int": "an integer", "float": "a decimal", "bool": "a boolean",
    "dict": "an object", "list": "an array", "model": "an object",
}  # fmt: skip
_BOUNDS = {
    "greater_than_equal": ("below_min_value", "below minimum value", ">=", "ge"),
    "greater_than": ("below_min_value", "below minimum value", ">", "gt"),
    "less_than_equal": ("above_max_value", "above maximum value", "<=", "le"),
    "less_than": ("above_max_value", "above maximum value", "<", "lt"),
}
"""Kind of error -> end of its code, its words, the relation, the key of the bound."""
FORM_ERROR = "request_form"
"""Kind of a custom error whose context names the ``form`` that was expected, with its article."""
_SHOWN_CHARS = 60
"""Of a wrong value in an error: enough to be recognised."""
Request = TypeVar("Request", bound=BaseModel)


def parse_request(model: type[Request], body: bytes) -> Request:
    """The request that a body holds.

    Raises:
        ApiError: 400, with the first field that is wrong.
    """
    fields = parse_json_object(body)
    check_fields(fields, model.model_fields.keys())
    return parse_fields(model, fields)


def parse_fields(model: type[Request], fields: dict[str, Any]) -> Request:
    """The request that fields make, those that have no effect left out.

    Raises:
        ApiError: 400, with the first field that is wrong.
    """
    served = {name: value for name, value in fields.items() if name in model.model_fields}
    try:
        return model.model_validate(served)
    except ValidationError as error:
        raise _describe_error(error.errors(include_url=False)[0]) from None


def parse_json_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object of valid Unicode text.

    Raises:
        ApiError: 400: no JSON, no object, nested too deeply, a number of thousands of digits, half
            a surrogate pair in a text.
    """
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _invalid_json() from None
    except ValueError:  # the one that is left: Python reads no integer of so many digits
        raise ApiError(
            400,
            "A number in the body of your request has more than "
            f"{sys.get_int_max_str_digits()} digits.",
            code="invalid_value",
        ) from None
    if not isinstance(parsed, dict):
        raise invalid_type("body", "an object", parsed)
    for place, text in _walk_texts(parsed):
        if _SURROGATE.search(text):
            raise ApiError(
                400,
                f"Invalid '{place}': half of a surrogate pair is no Unicode text.",
                param=place,
                code="invalid_unicode",
            )
    return parsed


def check_fields(fields: dict[str, Any], served: Container[str]) -> None:
    """Refuse fields that would change the answer and are not served.

    Raises:
        ApiError: 400, with the field.
    """
    for name, value in fields.items():
        if name in served or name in NO_EFFECT:
            continue
        if name not in NEUTRAL_VALUES:
            raise unknown_parameter(name)
        if not is_neutral(name, value):
            raise ApiError(
                400,
                f"Unsupported parameter: '{name}' is not served here; leave it out.",
                param=name,
                code="unsupported_parameter",
            )


def unknown_parameter(name: str) -> ApiError:
    """400: a field that nobody knows."""
    return ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def missing_parameter(place: str) -> ApiError:
    """400: a field that must be there."""
    return ApiError(
        400,
        f"Missing required parameter: '{place}'.",
        param=place,
        code="missing_required_parameter",
    )


def invalid_type(place: str, expected: str, value: Any) -> ApiError:
    """400: a value of another type.

    Args:
        place: the field, as the client wrote it.
        expected: the type it should have, with its article.
        value: what was sent.
    """
    actual = _JSON_TYPES.get(type(value), "another type")
    return ApiError(
        400,
        f"Invalid type for '{place}': expected {expected}, but got {actual} instead.",
        param=None if place == "body" else place,
        code="invalid_type",
    )


def empty_array(place: str) -> ApiError:
    """400: an array without an item."""
    return ApiError(
        400,
        f"Invalid '{place}': empty array. Expected an array with at least one item.",
        param=place,
        code="empty_array",
    )


def array_too_long(place: str, bound: str) -> ApiError:
    """400: an array of more items than are taken.

    Args:
        place: the field, as the client wrote it.
        bound: the number that is taken, in words.
    """
    return ApiError(
        400,
        f"Invalid '{place}': array too long. Expected an array with {bound}.",
        param=place,
        code="array_above_max_length",
    )


def format_place(parts: Sequence[str | int]) -> str:
    """A place in a body as OpenAI writes it: ``messages[0].content``."""
    written = ""
    for part in parts:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written


def _walk_texts(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, text) of every key and text.

    Raises:
        ApiError: 400: nested too deeply.
    """
    levels: list[tuple[tuple[str | int, ...], Any]] = [((), body)]
    while levels:
        place, value = levels.pop()
        if isinstance(value, str):
            yield format_place(place), value
        elif isinstance(value, dict | list):
            if len(place) >= MAX_DEPTH:
                raise _too_deep()
            if isinstance(value, dict):
                yield format_place(place) or "body", "".join(value)
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            levels += [((*place, key), item) for key, item in inner]


def _too_deep() -> ApiError:
    return ApiError(400, f"The body is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")


def _invalid_json() -> ApiError:
    return ApiError(
        400,
        "We could not parse the JSON body of your request. The body must be valid JSON.",
        code="invalid_json",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid_json()  # NaN and Infinity, which Python reads


def _describe_error(error: ErrorDetails) -> ApiError:
    """The first error of a body in OpenAI's words."""
    place, kind, value = format_place(error["loc"]), error["type"], error["input"]
    context = error.get("ctx", {})
    if kind == "missing":
        return missing_parameter(place)
    if kind == "extra_forbidden":
        return unknown_parameter(place)
    if kind in _BOUNDS:
        ending, words, relation, key = _BOUNDS[kind]
        number = "integer" if isinstance(context[key], int) else "decimal"  # as the field is
        return ApiError(
            400,
            f"Invalid '{place}': {number} {words}. "
            f"Expected a value {relation} {_spell_number(context[key])}, but got {value} instead.",
            param=place,
            code=f"{number}_{ending}",
        )
    if kind == "finite_number":
        reason = "number too large. Expected a finite decimal"
        return ApiError(400, f"Invalid '{place}': {reason}.", param=place, code="invalid_value")
    if kind == "literal_error":
        reason = f"expected {context['expected']}, but got {_spell_value(value)} instead"
        return ApiError(400, f"Invalid '{place}': {reason}.", param=place, code="invalid_value")
    if kind == "too_short":
        return empty_array(place)
    if kind == "too_long":
        return array_too_long(place, f"at most {context['max_length']} items")
    if kind == "string_pattern_mismatch":
        return ApiError(
            400,
            f"Invalid '{place}': string does not match pattern. Expected a string that matches "
            f"the pattern '{context['pattern']}'.",
            param=place,
            code="invalid_value",
        )
    if kind == FORM_ERROR:
        form = context["form"]
        return empty_array(place) if value == [] else invalid_type(place, form, value)
    expected = _EXPECTED.get(kind.partition("_")[0])
    if expected is not None and kind.endswith(("_type", "_from_float", "_parsing_size")):
        return invalid_type(place, expected, value)
    said = error["msg"]
    return ApiError(400, f"Invalid '{place}': {said}.", param=place, code="invalid_value")


def _spell_number(bound: float) -> str:
    """A bound in full where it is whole: a rounded one would name values that are refused."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _spell_value(value: Any) -> str:
    """The beginning of a value as its client wrote it."""
    return json.dumps(value, ensure_ascii=False)[:_SHOWN_CHARS]
