from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import ConfigError
from components.text.constitution.principles import (
    Constitution,
    default_constitution,
    judge_answer,
    load_constitution,
)

QUESTION = "What does `json.dumps` do?"
SUBJECT = "json.dumps"
REFERENCE = "Serialize `obj` to a JSON formatted `str`."
GOOD = "`dumps` serializes `obj` to a JSON formatted `str`."


def one(check: str, answer: str, *, question: str = QUESTION, reference: str = REFERENCE) -> float:
    """The score of one answer by one check, given as YAML would."""
    import yaml

    principle = {"name": "it", "description": "It.", "check": yaml.safe_load(check)}
    constitution = Constitution.model_validate({"principles": [principle]})
    return judge_answer(constitution, question, SUBJECT, answer, reference).scores["it"]


@pytest.mark.parametrize(
    ("check", "good", "bad", "worst"),
    [
        ("{kind: subject}", GOOD, "Loads a file.", 0.0),
        ("{kind: sentence}", GOOD, "of the (first", 0.25),
        ("{kind: repetition}", GOOD, "the cat the cat the cat the cat the cat", 0.0),
        ("{kind: length}", GOOD, "Yes " * 100, 0.0),
        ("{kind: reference}", "Serializes obj to a JSON formatted str.", "Opens a window.", 0.0),
        ("{kind: identifiers}", GOOD, "`dump_all` calls `make_it`.", 0.0),
        ("{kind: plain}", GOOD, ".. note:: see :class:`x` >>> y || z", 0.0),
        ("{kind: personal}", GOOD, "Write to anna.schmidt@firma.de about it.", 0.0),
        (
            '{kind: form, forms: [{asked: "what does", avoids: "is in the module"}]}',
            GOOD,
            "`dumps` is in the module `json`.",
            0.0,
        ),
    ],
)
def test_each_check_passes_a_good_answer_and_fails_a_bad_one(
    check: str, good: str, bad: str, worst: float
) -> None:
    assert one(check, good) == 1.0
    assert one(check, bad) == pytest.approx(worst)


def test_subject_counts_the_words_of_its_name() -> None:
    check = "{kind: subject, words_worth: 0.8}"
    asked = {"question": "Describe `net.move_to_column`."}
    constitution = Constitution.model_validate(
        {"principles": [{"name": "it", "description": ".", "check": {"kind": "subject"}}]}
    )
    half = judge_answer(
        constitution, asked["question"], "net.move_to_column", "Moves to a line.", ""
    )
    assert half.total == pytest.approx(2 / 3)
    assert one(check, "Dumping.") == pytest.approx(0.8)
    assert one(check, "The dumpster.") == 0.0


def test_a_cut_answer_is_not_complete() -> None:
    constitution = Constitution.model_validate(
        {"principles": [{"name": "it", "description": ".", "check": {"kind": "sentence"}}]}
    )
    cut = judge_answer(constitution, QUESTION, SUBJECT, GOOD, REFERENCE, finished=False)
    assert cut.total == 0.5
    assert judge_answer(constitution, QUESTION, SUBJECT, "", REFERENCE).total == 0.0


def test_silence_is_not_grounded() -> None:
    """An answer that names nothing must not pass where the documentation names parameters."""
    reference = "`get` takes 2 parameters: `index1` and `index2`."
    assert one("{kind: identifiers}", "It takes no parameters.", reference=reference) == 0.0
    half = one("{kind: identifiers}", "`get` takes `index1`.", reference=reference)
    assert half == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))
    assert one("{kind: identifiers}", "It takes nothing.", reference="Takes nothing.") == 1.0


def test_reference_is_f1_and_full_stretches_it() -> None:
    half = (
        "Serialize numbers, lists, names."  # 1 of 4 shared with serialize, obj, json, format, str
    )
    assert one("{kind: reference}", half) == pytest.approx(2 * 1 / (4 + 5))
    assert one("{kind: reference, full: 0.5}", half) == pytest.approx(2 * 1 / (4 + 5) / 0.5)


def test_length_falls_on_both_sides() -> None:
    check = "{kind: length, shortest: 4, longest: 10}"
    assert one(check, "Two words.") == 0.5
    assert one(check, "word " * 15) == 0.5
    assert one(check, "word " * 7) == 1.0


def test_example_addresses_are_no_personal_data() -> None:
    assert one("{kind: personal}", "Send it to user@example.com.") == 1.0


def test_total_is_the_weighted_mean() -> None:
    constitution = Constitution.model_validate(
        {
            "principles": [
                {"name": "a", "description": ".", "weight": 3, "check": {"kind": "sentence"}},
                {"name": "b", "description": ".", "weight": 1, "check": {"kind": "subject"}},
                {"name": "c", "description": ".", "weight": 0, "check": {"kind": "plain"}},
            ]
        }
    )
    judged = judge_answer(constitution, QUESTION, SUBJECT, "Opens a | window.", REFERENCE)
    assert judged.scores == {"a": 1.0, "b": 0.0, "c": pytest.approx(2 / 3)}
    assert judged.total == 0.75


def test_the_house_constitution_prefers_better_answers() -> None:
    default = default_constitution()

    def total(answer: str) -> float:
        return judge_answer(default, QUESTION, SUBJECT, answer, REFERENCE).total

    assert total(GOOD) > 0.95
    order = [
        GOOD,
        "Serialize an object to a string.",
        "`dumps` takes no parameters.",
        "dumps dumps dumps dumps dumps",
        "of `make_it` (the :class:`Foo` |",
        "",
    ]
    totals = [total(answer) for answer in order]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == len(totals)


PLAIN = """# comment
principles:
  - name: whole
    description: Ends.
    weight: 1
    check: {kind: sentence}
  - name: short
    description: Is short.
    check:
      kind: length
      shortest: 3
      longest: 9
"""


def read(tmp_path: Path, text: str) -> Constitution:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_constitution(path)


def test_a_constitution_is_read_as_written(tmp_path: Path) -> None:
    constitution = read(tmp_path, PLAIN)
    assert [p.name for p in constitution.principles] == ["whole", "short"]
    again = Constitution.model_validate(constitution.model_dump(mode="json"))
    assert again == constitution


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "shortest: 3",
            "shortest: 0",
            11,
            "principles.1.check.shortest: given 0: must be at least",
        ),
        ("shortest: 3", "shortest: 30", 12, "longest must not be below shortest"),
        (
            "shortest: 3",
            "shortes: 3",
            11,
            "principles.1.check.shortes: unknown field; did you mean 'shortest'",
        ),
        ("kind: length", "kind: lenght", 9, "principles.1.check: .*lenght.*does not match"),
        ("weight: 1", "weight: -1", 5, "principles.0.weight: given -1: must be at least 0"),
        ("weight: 1", "wieght: 1", 5, "principles.0.wieght: unknown field; did you mean 'weight'"),
        ("name: short", "name: whole", 2, "two principles are named 'whole'"),
        ("principles:", "principle:", 2, "principle: unknown field; did you mean 'principles'"),
        ("check: {kind: sentence}", "check: {kind: form, forms: [{asked: '('}]}", 6, "not a reg"),
        ("  - name: whole", "  - name: [", 5, "not valid YAML"),
    ],
)
def test_a_wrong_constitution_is_one_line_with_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read(tmp_path, PLAIN.replace(old, new, 1))
    message = str(caught.value)
    assert "\n" not in message
    assert f"mine.yaml:{line}:" in message


def test_no_weight_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one principle needs a weight above 0"):
        read(
            tmp_path,
            "principles:\n- {name: a, description: ., weight: 0, check: {kind: plain}}\n",
        )
