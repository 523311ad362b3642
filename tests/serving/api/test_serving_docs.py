"""The page about serving names every route, field and limit, and its example is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command

from flows.cli.operate import app
from serving.api.answers.loaded_model import LoadedModel
from serving.api.limits import EndpointLimits
from serving.api.openapi_document import describe_api
from serving.api.request_schema import ChatRequest, CompletionRequest
from serving.constrain.constraint_fields import ConstraintFields
from serving.constrain.tool_fields import ToolFields
from tests.docs.code_blocks import code_blocks

PAGE = (Path(__file__).parents[3] / "docs/serve.md").read_text()
OPTIONS = {"body_bytes": "--max-body-bytes"}
"""Limits whose option has another name."""


def test_every_route_and_field_is_named() -> None:
    for path in describe_api("tiny", has_key=False)["paths"]:
        assert f"/v1{path.replace('{model}', 'NAME')}`" in PAGE, path
    fields = [
        *(ChatRequest.model_fields | CompletionRequest.model_fields),
        *(ConstraintFields.model_fields | ToolFields.model_fields),
    ]
    taken = {"model", "messages", "prompt"}
    unnamed = {field for field in fields if not re.search(rf"`{field}[`.:]", PAGE)} - taken
    assert unnamed == set()


def test_every_limit_is_named_with_its_default() -> None:
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    for name, field in EndpointLimits.model_fields.items():
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if option in options:
            row = next(line for line in PAGE.splitlines() if f"`{option}`" in line)
        else:
            row = next(
                line for line in PAGE.splitlines() if re.search(rf"`(limits\.)?{name}`", line)
            )
        if isinstance(field.default, int) and field.default < 1000:
            assert str(field.default) in row, name


def test_the_example_of_a_schema_is_answered(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> None:
    body = re.search(r"-d '(\{\"model\": \"support\",\n.*?\})'", PAGE, re.DOTALL)
    assert body is not None
    asked = json.loads(body[1].replace("support", "tiny"))
    with listening(make_served(context=300)) as address:
        answer = httpx.post(f"{address}/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert "module" in json.loads(answer.json()["choices"][0]["message"]["content"])


def test_the_python_on_the_page_is_answered(
    make_served: Callable[..., LoadedModel],
    listening: Callable[..., AbstractContextManager[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    blocks = [block for block in code_blocks("python") if block.page == "docs/serve.md"]
    assert len(blocks) >= 2
    with listening(make_served(context=300)) as address:
        for block in blocks:
            text = block.text.replace("http://127.0.0.1:3000/v1", address)
            exec(
                compile(text.replace('"support"', '"tiny"'), str(block), "exec", dont_inherit=True),
                names,
            )
    assert capsys.readouterr().out  # the stream's words
