"""Files of judged answers: read, split by prompt, cleaned; every row has one line in the ledger."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.clean.contamination.score import ContaminationConfig
from components.clean.conversations.conversations_config import ConversationSelectConfig
from components.clean.pii.rule import PiiRule
from components.clean.preferences.read_preferences import OwnPreferencesConfig, read_preferences
from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.chat.judged_prompts import JUDGED_FILE, JudgedPrompt, read_judged_prompts

Again = Callable[[], Workdir]
WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "jungle",
    "knoll",
    "lagoon",
]


def sentence(seed: int, words: int = 12) -> str:
    """A sentence that no other seed gives."""
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(words)) + f" {seed}."


def pair(number: int, **more: Any) -> dict[str, Any]:
    texts = {"prompt": sentence(3 * number), "chosen": sentence(3 * number + 1)}
    return {**texts, "rejected": sentence(3 * number + 2), **more}


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [pair(number) for number in range(start, start + count)]


def rated(prompt: str, response: str, rating: Any) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, "rating": rating}


def write(path: Path, rows: Sequence[Any], *raw: bytes) -> Path:
    lines = [json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in (*lines, *raw)))
    return path


def config(*files: Path, **more: Any) -> OwnPreferencesConfig:
    given = tuple(HashedFile.model_validate(str(path)) for path in files)
    return OwnPreferencesConfig(files=given, **{"heldout_share": 0.0, "shards": 2, **more})


def folder_of(work: Workdir, corpus: Corpus) -> Path:
    return work.artifact_folder(corpus)


def ledger(work: Workdir, corpus: Corpus) -> list[dict[str, Any]]:
    folder = folder_of(work, corpus) / "ledger"
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).to_pylist()


def judged(work: Workdir, corpus: Corpus) -> list[dict[str, Any]]:
    rows = pq.read_table(folder_of(work, corpus) / JUDGED_FILE).to_pylist()
    return [{**row, "messages": json.loads(row["messages"])} for row in rows]


def prompts_of(work: Workdir, corpus: Corpus) -> list[JudgedPrompt]:
    return read_judged_prompts(folder_of(work, corpus))


def judgements(prompt: JudgedPrompt) -> dict[str, float]:
    return {str(answer.message["content"]): answer.judgement for answer in prompt.answers}


def test_pairs_become_documents_with_all_texts(tmp_path: Path, again: Again):
    work = again()
    made = read_preferences(config(write(tmp_path / "mine.jsonl", pairs(5))), work)
    assert made.stats["preferences"] == 5
    assert made.stats["set_aside"] == made.stats["heldout"] == 0
    documents = read_shards(folder_of(work, made), ["url", "text"]).to_pylist()
    wanted = {"\n\n".join(pair(n)[k] for k in ("prompt", "chosen", "rejected")) for n in range(5)}
    assert {row["text"] for row in documents} == wanted
    assert all(row["url"].startswith(f"file:///{tmp_path.name}/mine.jsonl#") for row in documents)
    assert [row["messages"][1]["judgement"] for row in judged(work, made)] == [1.0] * 5


@pytest.mark.parametrize("kind", ["json", "jsonl.gz", "parquet"])
def test_other_files_hold_the_same_rows(tmp_path: Path, again: Again, kind: str):
    path = tmp_path / f"mine.{kind}"
    if kind == "json":
        path.write_text(json.dumps(pairs(4)))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(pairs(4)), path)
    else:
        path.write_bytes(gzip.compress(b"\n".join(json.dumps(r).encode() for r in pairs(4))))
    work = again()
    made = read_preferences(config(path), work)
    plain = read_preferences(config(write(tmp_path / "mine.jsonl", pairs(4))), other := again())
    texts = [
        sorted(str(r["messages"]) for r in judged(w, m)) for w, m in ((work, made), (other, plain))
    ]
    assert texts[0] == texts[1]


def test_bad_rows_are_set_aside_and_nothing_is_lost(tmp_path: Path, again: Again):
    rows = [*pairs(12), pair(0), {"prompt": "a", "chosen": "b", "rejected": "b"}, 7, {}]
    file = write(tmp_path / "mine.jsonl", rows, b'{"prompt": "\xff"}', b"{broken", b"")
    work = again()
    made = read_preferences(config(file, max_bad_share=0.5), work)
    lines = {row["row"].partition(":")[2]: row for row in ledger(work, made)}
    assert sorted(map(int, lines)) == list(range(1, 19))
    assert [n for n in map(str, range(1, 19)) if lines[n]["kept"]] == list(map(str, range(1, 13)))
    assert lines["13"]["reasons"] == ["duplicates"]
    assert lines["14"]["reasons"] == ["the answers of its pair are equal"]
    assert lines["15"]["reasons"] == ["is no object, but 7"]
    assert "UTF-8" in lines["17"]["reasons"][0]
    quarantine = pq.read_table(folder_of(work, made) / "quarantine.parquet")
    assert quarantine["row"].to_pylist() == [f"mine.jsonl:{n}" for n in range(14, 19)]
    with pytest.raises(DataError, match=r"5 of 18 rows hold no preference .*preferences\.max_bad"):
        read_preferences(config(file), again())


@pytest.mark.parametrize("seed", range(4))
def test_no_row_of_any_file_is_lost(tmp_path: Path, again: Again, seed: int):
    dice = random.Random(seed)

    def draw() -> Any:
        number = dice.randrange(12)
        return dice.choice(
            [
                pair(number),
                pair(number, rejected=pair(number)["chosen"]),
                pair(number, chosen=dice.choice(["", None, 3, "Mail ann.berg@fjordpost.no."])),
                rated(
                    sentence(number), sentence(dice.randrange(9)), dice.choice([1, 2, "x", None])
                ),
                {"messages": [{"role": "user", "content": "Hi"}], "label": True},
                dice.choice([None, [], {}, 1.5, "text"]),
            ]
        )

    files = [tmp_path / f"{name}.jsonl" for name in ("a", "b")]
    drawn = [[draw() for _ in range(60)] for _ in files]
    for path, rows in zip(files, drawn, strict=True):
        write(path, [pair(90), pair(91), *rows])
    work = again()
    made = read_preferences(config(*files, max_bad_share=1.0, heldout_share=0.2), work)
    lines = ledger(work, made)
    labels = Counter(row["row"] for row in lines)
    assert labels == Counter(f"{name}.jsonl:{n}" for name in "ab" for n in range(1, 63))
    assert (
        made.stats["rows"]
        == len(lines)
        == sum(made.stats[name] for name in ("preferences", "dropped", "set_aside"))
    )
    assert all(bool(row["reasons"]) != row["kept"] for row in lines)
    kept = {row["id"] for row in lines if row["kept"]}
    assert {row["id"] for row in judged(work, made)} == kept
    sides = {(p.id, p.heldout) for p in prompts_of(work, made)}
    assert len({identifier for identifier, _ in sides}) == len(sides)


def test_held_out_prompts_are_drawn_with_all_their_answers(tmp_path: Path, again: Again):
    rows = [
        {"prompt": sentence(n), "chosen": sentence(100 + n + k), "rejected": sentence(300 + n + k)}
        for n in range(60)
        for k in (0, 60)
    ]
    work = again()
    made = read_preferences(config(write(tmp_path / "a.jsonl", rows), heldout_share=0.3), work)
    prompts = prompts_of(work, made)
    assert len(prompts) == 60
    assert all(len(prompt.answers) == 4 for prompt in prompts)
    heldout = sum(prompt.heldout for prompt in prompts)
    assert 9 <= heldout <= 27  # 18 expected, deviation 3.5
    fewer = write(tmp_path / "a.jsonl", rows[:80])
    less = read_preferences(config(fewer, heldout_share=0.3), other := again())
    known = {prompt.id: prompt.heldout for prompt in prompts}
    assert all(known[prompt.id] == prompt.heldout for prompt in prompts_of(other, less))


def test_a_held_out_prompt_that_training_nearly_has_is_dropped(tmp_path: Path, again: Again):
    base = sentence(1, 60)
    rows = [pair(n, prompt=f"{base} {n}") for n in range(30)]
    work = again()
    made = read_preferences(config(write(tmp_path / "a.jsonl", rows), heldout_share=0.3), work)
    assert made.stats["heldout"] == 0
    dropped = [row for row in ledger(work, made) if not row["kept"]]
    assert dropped
    assert all(row["heldout"] and row["reasons"] == ["duplicates"] for row in dropped)


def test_people_who_disagree_are_no_copies(tmp_path: Path, again: Again):
    one = pair(1)
    swapped = {**one, "chosen": one["rejected"], "rejected": one["chosen"]}
    third = {**one, "rejected": sentence(99)}
    rows = [one, swapped, third, pair(2)]
    work = again()
    made = read_preferences(config(write(tmp_path / "a.jsonl", rows)), work)
    assert made.stats["preferences"] == 4
    first = next(p for p in prompts_of(work, made) if len(p.answers) == 3)
    # Of three comparisons the first answer won two, the second one of two, the third none.
    assert judgements(first) == pytest.approx(
        {one["chosen"]: 2 / 3, one["rejected"]: 0.5, sentence(99): 0.0}
    )


def test_ratings_are_scaled_by_their_file(tmp_path: Path, again: Again):
    stars = [rated("Colour?", "Red.", 1), rated("Colour?", "Blue.", 5), rated("Colour?", "No.", 2)]
    points = [rated("Colour?", "Red.", 90), rated("Colour?", "Blue.", 40), rated("Size?", "S", 65)]
    files = [write(tmp_path / "stars.jsonl", stars), write(tmp_path / "points.jsonl", points)]
    work = again()
    made = read_preferences(config(*files), work)
    by_source = {(p.source[-12:], len(p.answers)): judgements(p) for p in prompts_of(work, made)}
    assert by_source["/stars.jsonl", 3] == {"Red.": 0.0, "Blue.": 1.0, "No.": 0.25}
    assert by_source["points.jsonl", 2] == {"Red.": 1.0, "Blue.": 0.0}
    assert by_source["points.jsonl", 1] == {"S": 0.5}


def test_kto_labels_of_one_prompt_are_compared(tmp_path: Path, again: Again):
    rows = [
        {"prompt": "Colour?", "completion": text, "label": label}
        for text, label in (("Red.", True), ("Go away.", False))
    ]
    work = again()
    made = read_preferences(config(write(tmp_path / "a.jsonl", rows)), work)
    assert judgements(prompts_of(work, made)[0]) == {"Red.": 1.0, "Go away.": 0.0}


def test_ratings_that_compare_nothing_are_an_error_before_anything_is_trained(
    tmp_path: Path, again: Again
):
    alone = [rated(sentence(n), sentence(50 + n), n % 5) for n in range(6)]
    with pytest.raises(DataError, match="6 prompts, and none to learn from has two answers judged"):
        read_preferences(config(write(tmp_path / "a.jsonl", alone)), again())


def test_secrets_are_redacted_alike_in_prompt_and_answers(tmp_path: Path, again: Again):
    row = pair(
        1,
        prompt="Who is ann.berg@fjordpost.no and bo.lund@fjordpost.no?",
        chosen="ann.berg@fjordpost.no is Ann.",
        rejected="Write to bo.lund@fjordpost.no.",
    )
    rules = ConversationSelectConfig(pii=PiiRule(email="redact"))
    work = again()
    made = read_preferences(config(write(tmp_path / "a.jsonl", [row, pair(2)]), select=rules), work)
    texts = next(r["messages"] for r in judged(work, made) if "Who is" in str(r["messages"]))
    ann, bob = texts[1]["content"].split()[0], texts[2]["content"].split()[-1].rstrip(".")
    assert ann != bob
    assert texts[0]["content"] == f"Who is {ann} and {bob}?"
    for path in folder_of(work, made).rglob("*.parquet"):
        assert "ann.berg@fjordpost.no" not in str(pq.read_table(path).to_pylist())


def test_evaluation_items_and_orders_to_forget_take_a_row_out(tmp_path: Path, again: Again):
    file = write(tmp_path / "a.jsonl", pairs(4))
    work = again()
    made = read_preferences(config(file), work)
    urls = {row["row"]: row["url"] for row in ledger(work, made)}
    rules = ConversationSelectConfig(blocked_urls=(urls["a.jsonl:2"],))
    item = {
        "question": "Which lighthouse keeper of Quorvane painted eleven umbrellas?",
        "answer": "Bo",
    }
    write(file, [*pairs(3), pair(3, prompt=f"Tell me. {item['question']} Thank you!")])
    exam = HashedFile.model_validate(str(write(tmp_path / "exam.jsonl", [item])))
    scored = ContaminationConfig(sets=(exam,))
    again_made = read_preferences(
        config(file, select=rules, contamination=scored), other := again()
    )
    verdicts = {row["row"]: row for row in ledger(other, again_made)}
    assert not verdicts["a.jsonl:2"]["kept"]
    assert verdicts["a.jsonl:4"]["reasons"] == ["contamination.overlap"]
    assert again_made.stats["preferences"] == 2
    texts = str(
        [pq.read_table(p).to_pylist() for p in folder_of(other, again_made).rglob("*.parquet")]
    )
    assert pair(1)["chosen"] not in texts


def test_files_without_a_preference_are_refused_in_one_line(tmp_path: Path, again: Again):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match=r"preferences.files: .*empty.jsonl holds no row"):
        read_preferences(config(empty), again())
    chats = write(tmp_path / "chats.jsonl", [{"prompt": "Hello?", "completion": "Hi."}])
    with pytest.raises(DataError, match=r"no row of .*chats.jsonl is a preference.*chosen and rej"):
        read_preferences(config(chats), again())
    with pytest.raises(ConfigError, match=r"own_preferences: no files.*preferences\.files"):
        read_preferences(config(), again())
    file = write(tmp_path / "a.jsonl", pairs(2))
    known = config(file)
    write(file, pairs(3))
    with pytest.raises(DataError, match=r"preferences.files: a.jsonl is gone or changed"):
        read_preferences(known, again())


def test_equal_files_give_equal_bytes(tmp_path: Path, again: Again):
    file = write(tmp_path / "a.jsonl", [*pairs(20), *pairs(3)])
    made = [read_preferences(config(file, heldout_share=0.2), again()) for _ in range(2)]
    assert made[0].digest == made[1].digest
