"""Requests made from the OpenAPI document, valid ones and broken ones, get the answers it names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from serving.api.answers.loaded_model import LoadedModel
from serving.api.openapi_document import describe_api
from serving.api.request_fields import NEUTRAL_VALUES, NO_EFFECT
from serving.api.request_schema import ChatRequest, CompletionRequest

DOCUMENT = describe_api("tiny", has_key=False)
SERVED = ChatRequest.model_fields.keys() | CompletionRequest.model_fields.keys()
_BOUNDED = {"deadline": None, "database": None, "derandomize": True}
_SUPPRESSED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def narrow_document() -> dict[str, Any]:
    """The document with the served model's name, served fields alone, and messages that get far."""
    document = copy.deepcopy(DOCUMENT)
    unserved = (NEUTRAL_VALUES.keys() | NO_EFFECT) - SERVED
    for schema in document["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if "model" in properties and "object" not in properties:
            properties["model"] = {"const": "tiny"}
            for name in unserved & properties.keys():
                del properties[name]
        if "messages" in properties:
            role = {"enum": ["user", "assistant", "system", "developer"]}
            message = {
                "type": "object",
                "properties": {"role": role, "content": {"type": "string"}},
                "required": ["role", "content"],
                "additionalProperties": False,
            }
            array = properties["messages"]
            array = array.get("anyOf", [array])[0]
            array["items"] = {"anyOf": [message, {"type": "object"}]}
    return document


CONFIG = SchemathesisConfig.from_dict({"generation": {"mode": "all"}})
SCHEMA = schemathesis.openapi.from_dict(narrow_document(), config=CONFIG)
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    )
]


@pytest.fixture(scope="module")
def address(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    with listening(make_served()) as listens:
        yield listens


def check_case(case: schemathesis.Case, address: str) -> None:
    case.call_and_validate(base_url=address, checks=CHECKS)


@SCHEMA.parametrize()
@settings(max_examples=20, suppress_health_check=_SUPPRESSED, **_BOUNDED)
def test_answers_are_as_the_document_says(case: schemathesis.Case, address: str) -> None:
    check_case(case, address)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=500, suppress_health_check=_SUPPRESSED, **_BOUNDED)
def test_many_answers_are_as_the_document_says(case: schemathesis.Case, address: str) -> None:
    check_case(case, address)
