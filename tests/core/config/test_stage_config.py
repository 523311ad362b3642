"""A user's mistake is one line with file, line, field, what was given and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from components.core.config.stage_config import (
    StageConfig,
    overlay_config,
    parse_assignment,
    read_yaml,
)
from components.core.errors import ConfigError


class Inner(StageConfig):
    minutes: float = Field(default=4.0, gt=0, le=600, description="time")
    seeds: list[str] = Field(default=[], description="where to start")
    steps: int | None = Field(default=None, ge=1, description="or a number of steps")
    bound: float | str = Field(default=1.0, description="a number, or a figure's name")
    research: bool = Field(default=False, description="a switch")


class Outer(StageConfig):
    name: str = Field(default="tiny", description="name")
    pretrain: Inner = Inner()


def lay(tmp_path: Path, text: str, *sets: str) -> Outer:
    path = tmp_path / "acme.yaml"
    path.write_text(text)
    values, lines = read_yaml(path)
    return overlay_config(Outer(), values, sets, file=path, lines=lines)


def test_a_file_lies_over_the_preset_and_sets_over_the_file(tmp_path: Path) -> None:
    run = lay(tmp_path, "name: acme\npretrain: {minutes: 60}\n", "pretrain.minutes=5")
    assert run.name == "acme"
    assert run.pretrain.minutes == 5
    assert run.pretrain.seeds == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "pretrain:\n  minutez: 5\n",
            "acme.yaml:2: pretrain.minutez: unknown field; did you mean 'minutes'?",
        ),
        ("zzz: 1\n", "acme.yaml:1: zzz: unknown field; allowed: name, pretrain"),
        ("pretrain:\n  kept: 1\n", "pretrain.kept: unknown field; allowed: minutes"),
        (
            "name: a\npretrain:\n  minutes: soon\n",
            "acme.yaml:3: pretrain.minutes: given 'soon': must be a number",
        ),
        (
            "pretrain:\n  minutes: 0\n",
            "acme.yaml:2: pretrain.minutes: given 0: must be more than 0",
        ),
        ("pretrain:\n  minutes: .nan\n", "acme.yaml:2: pretrain.minutes"),
        (
            "pretrain:\n  minutes: true\n",
            "acme.yaml:2: pretrain.minutes: given true or false: must be a number",
        ),
        ("pretrain: {steps: yes}\n", "acme.yaml:1: pretrain.steps: given 'yes': must be a whole"),
        ("name: a\n1: b\n", "acme.yaml:2: 1: unknown field"),
        ("name: a\npretrain:\n  null: b\n", "acme.yaml:3: pretrain.null: unknown field"),
        ("name: a\n[b]: c\n", "acme.yaml:2: not valid YAML: the name of a field must be text"),
        ("name: a\n1: b\n0x1: c\n1: d\n", "acme.yaml:4: not valid YAML: 1 is given twice"),
        (
            "pretrain: 5\n",
            "acme.yaml:1: pretrain: given 5: must be a group of fields (minutes, seeds, steps",
        ),
        ("pretrain:\n  minutes:\n", "acme.yaml:2: pretrain.minutes: given nothing: must be a num"),
        ("pretrain:\n  seeds: a\n", "acme.yaml:2: pretrain.seeds: given 'a': must be a list"),
        ("pretrain:\n  bound: []\n", "bound: given []: must be a number or text"),
        ("name: 5\n", "acme.yaml:1: name: given 5: must be text"),
        ("pretrain:\n  seeds:\n  - a\n  - 7\n", "acme.yaml:4: pretrain.seeds.1: given 7"),
        ("name: [\n", "acme.yaml:2: not valid YAML"),
        ("- a\n", "acme.yaml:1: must hold fields and their values, and holds a list"),
        ("name: a\nname: b\n", "acme.yaml:2: not valid YAML: name is given twice"),
        ("name: &a [*a]\n", "acme.yaml: not usable YAML: nested too deeply"),
        (
            "x-a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"x-{n}: &{n} [{','.join([f'*{o}'] * 9)}]\n"
                for o, n in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "acme.yaml: not usable YAML: more than 100,000 fields, those of each alias counted again",
        ),
        ("name: " + "[" * 5000, "acme.yaml: not usable YAML: nested too deeply"),
        ("pretrain: {minutes: " + "9" * 5000 + "}", "acme.yaml: not usable YAML"),
        ("", "acme.yaml:1: must hold fields and their values, and holds nothing"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lay(tmp_path, text)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_all_mistakes_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "pretrain:\n  steps: true\n  minutez: 3\n  seeds: [7]\nname: null\n"
    with pytest.raises(ConfigError) as caught:
        lay(tmp_path, text, "pretrain.minutes=soon")
    lines = str(caught.value).splitlines()
    assert [line.partition("acme.yaml:")[2] or line for line in lines] == [
        "--set pretrain.minutes=soon: pretrain.minutes: given 'soon': must be a number",
        "2: pretrain.steps: given true or false: must be a number",
        "3: pretrain.minutez: unknown field; did you mean 'minutes'?",
        "4: pretrain.seeds.0: given 7: must be text",
        "5: name: given nothing: must be text",
    ]


def test_true_is_a_switch(tmp_path: Path) -> None:
    assert lay(tmp_path, "pretrain: {research: true}\n").pretrain.research


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("on", "on"),
        ("[en, no, yes, off, y]", ["en", "no", "yes", "off", "y"]),
        ("[true, False, TRUE]", [True, False, True]),
        ("[0100, 0o17, 0x1F, -7, +7]", [100, 15, 31, -7, 7]),
        ("[1:40, 1_000, 0b1, =]", ["1:40", "1_000", "0b1", "="]),
        ("[1e2, 1E-2, .5, 1., -1.5e+1]", [100.0, 0.01, 0.5, 1.0, -15.0]),
        ("[null, Null, ~, '']", [None, None, None, ""]),
        ("{on: low, 1: a, null: b, <<: {c: d}}", {"on": "low", "1": "a", "null": "b", "c": "d"}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, written: str, read: object) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(f"value: {written}\n")
    assert read_yaml(path)[0] == {"value": read}
    assert parse_assignment(f"value={written}") == {"value": read}


def test_a_number_with_an_exponent_is_a_whole_number_where_it_is_whole(tmp_path: Path) -> None:
    assert lay(tmp_path, "pretrain: {steps: 1e2}\n").pretrain.steps == 100


def test_a_date_stays_text(tmp_path: Path) -> None:
    assert lay(tmp_path, "name: 2026-01-01\n").name == "2026-01-01"
    assert lay(tmp_path, "{}\n", "name=2026-01-01T00:00:00Z").name == "2026-01-01T00:00:00Z"


def test_a_wrong_set_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set pretrain.minutes=-1: pretrain.minutes: given -1"):
        lay(tmp_path, "name: a\n", "pretrain.minutes=-1")
    with pytest.raises(ConfigError, match="write it as field=value"):
        parse_assignment("pretrain.minutes")
    with pytest.raises(ConfigError, match="is not a value") as caught:
        parse_assignment("name=[1")
    assert "\n" not in str(caught.value)


def test_a_set_s_value_is_taken_whole() -> None:
    for given in ("a #b", "#b", "a  # b", "5 #b"):
        assert parse_assignment(f"name={given}") == {"name": given}
    assert parse_assignment("x=[a #b, '#c']") == {"x": ["a #b", "#c"]}
    assert parse_assignment("x.y={a: b #c}") == {"x": {"y": {"a": "b #c"}}}
    with pytest.raises(ConfigError, match=r"--set name: '\"a\" #b' is not a value"):
        parse_assignment('name="a" #b')


def test_a_stage_s_own_name_may_stand_before_its_fields() -> None:
    for given in ("minutes=5", "pretrain.minutes=5"):
        assert overlay_config(Inner(), {}, [given], within="pretrain").minutes == 5
    for given in ("minutes=-1", "pretrain.minutes=-1"):
        with pytest.raises(ConfigError) as caught:
            overlay_config(Inner(), {}, [given], within="pretrain")
        told = f"--set {given}: pretrain.minutes: given -1: must be more than 0.0"
        assert str(caught.value) == told
    with pytest.raises(ConfigError, match=r"--set sft.minutes=5: pretrain.sft: unknown field"):
        overlay_config(Inner(), {}, ["sft.minutes=5"], within="pretrain")


def test_the_last_of_two_sets_is_blamed(tmp_path: Path) -> None:
    sets = ("pretrain.steps=2", "pretrain.steps=0", "pretrain.minutes=1")
    with pytest.raises(ConfigError, match=r"^--set pretrain\.steps=0: pretrain\.steps: given 0"):
        lay(tmp_path, "name: a\n", *sets)


def test_a_check_of_several_fields_names_the_stage() -> None:
    class Two(StageConfig):
        low: int = Field(default=1, description="a bound")
        high: int = Field(default=2, description="another")

        @model_validator(mode="after")
        def _ordered(self) -> Two:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(ConfigError, match=r"^--set low=3: adapt: low is above high$"):
        overlay_config(Two(), {}, ["low=3"], within="adapt")
    with pytest.raises(ConfigError, match=r"^\(whole config\): low is above high$"):
        overlay_config(Two(), {"low": 3})


def test_missing_and_binary_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        read_yaml(tmp_path / "binary.yaml")
