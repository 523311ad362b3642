"""Arguments of a wrong type or value: one line of a ``MillError`` each, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import modelmill
from components.core.errors import ConfigError, MillError
from tests.base_models import write_base


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Small model with random weights."""
    folder = write_base(tmp_path_factory.mktemp("base") / "qwen3")
    return modelmill.load(folder, home=tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_tokens": 1.5}, "max_tokens: given 1.5: must be a whole number, or None"),
        ({"max_tokens": True}, "max_tokens: given True: must be a whole number, or None"),
        ({"max_tokens": 0}, "max_tokens: given 0: must be from 1 to"),
        ({"seed": "x"}, "seed: given 'x': must be a whole number, or None"),
        ({"seed": 2**70}, "seed: given 1180591620717411303424: must be from -2^63 to 2^64 - 1"),
        ({"temperature": "0"}, "temperature: given '0': must be a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature: given nan: must be a number from 0 to 2"),
        ({"temperature": None}, "temperature: given None: must be a number from 0 to 2"),
        ({"messages": "\ud800"}, "messages: holds half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": "\udc00"}]}, "messages: holds half of a"),
        ({"messages": [{"role": "user", "content": {1, 2}}]}, "messages: must be what JSON can"),
        ({"messages": {"role": "user", "content": "a"}}, "messages: give a question, or a list"),
        ({"messages": None}, "messages: give a question, or a list"),
        ({"messages": b"bytes"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": [{"role": ..., "content": "a"}]}, "messages: must be what JSON can hold"),
        ({"messages": [{1: 2}]}, "messages"),
    ],
)
def test_a_wrong_argument_of_a_question_is_one_line(model: Any, arguments: Any, words: str) -> None:
    with pytest.raises(MillError) as caught:
        model.chat(arguments.pop("messages", "a"), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 5, "\ud800", b"a"])
def test_a_wrong_text_is_one_line(model: Any, text: Any) -> None:
    with pytest.raises(ConfigError, match=r"^text: "):
        model.generate(text)


def test_numbers_of_other_libraries_are_numbers(model: Any) -> None:
    import numpy as np

    own = model.generate("a", temperature=0.5, seed=3, max_tokens=4)
    assert own == model.generate(
        "a", temperature=np.float32(0.5), seed=np.int64(3), max_tokens=np.int32(4)
    )


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("load", [None], "reference: given None: give NAME@ALIAS, NAME/VERSION, a digest"),
        ("load", [""], "reference: given '': give NAME@ALIAS"),
        ("load", [7], "reference: given 7: give NAME@ALIAS"),
        ("load", ["tiny@"], "tiny@: no alias after @; no model is registered in"),
        ("load", [{"role": "user"}], "reference: given {'role': 'user'}: give NAME@ALIAS"),
        ("artifact", [None], "name: given None: give an artifact's name, or the beginning"),
        ("plan", ["tiny", 5], "overrides: given 5: give a mapping, or a list of texts"),
        ("plan", ["tiny", b"a=1"], "overrides: given b'a=1': give a mapping, or a list"),
        ("plan", [{"preset": "tiny", "a b": 1}], "source: 'a b' is no name of a field"),
    ],
)
def test_a_wrong_argument_of_a_call_is_one_line(
    name: str, arguments: list[Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(modelmill, name)(*arguments, home=tmp_path)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 5000])
def test_a_name_that_no_file_system_takes_is_one_line(name: str, tmp_path: Path) -> None:
    for call in (
        lambda: modelmill.artifact("0" * 12, home=name),
        lambda: modelmill.plan(f"{name}.yaml", home=tmp_path),
        lambda: modelmill.load(name, home=tmp_path),
        lambda: modelmill.load(tmp_path, tokenizer=name, home=tmp_path),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_home_that_is_no_folder_is_named() -> None:
    with pytest.raises(ConfigError, match="home: given 5: give the folder of a workspace"):
        modelmill.artifact("0" * 12, home=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many"])
def test_a_figure_that_is_no_finite_number_is_one_line(value: Any) -> None:
    with pytest.raises(MillError, match=r"^figure words: value: given .*number") as caught:
        modelmill.exact_figure("words", value)
    assert "\n" not in str(caught.value)
    with pytest.raises(MillError, match="figure mean: "):
        modelmill.mean_interval([1.0, float("nan")])
