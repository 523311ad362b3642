"""Files of conversations: read, split, cleaned; every row has one line in the ledger."""

from __future__ import annotations

import bz2
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
from components.clean.conversations.conversation_verdicts import ConversationJudge
from components.clean.conversations.conversations_config import (
    ConversationsConfig,
    ConversationSelectConfig,
)
from components.clean.conversations.read_conversations import read_conversations
from components.clean.pii.rule import PiiRule
from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir

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
    "meadow",
    "north",
    "orchard",
    "prairie",
    "quarry",
    "ridge",
    "summit",
    "tundra",
    "upland",
    "valley",
    "willow",
    "xylem",
    "yonder",
    "zephyr",
]


def sentence(seed: int, words: int = 12) -> str:
    """A sentence that no other seed gives."""
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(words)) + f" {seed}."


def chat(question: str, answer: str, *more: str, system: str = "") -> dict[str, Any]:
    texts = [question, answer, *more]
    turns = [
        {"role": "assistant" if at % 2 else "user", "content": text}
        for at, text in enumerate(texts)
    ]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns]}


def distinct(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [chat(sentence(2 * n), sentence(2 * n + 1)) for n in range(start, start + count)]


def lines(rows: Sequence[Any]) -> bytes:
    return b"".join(
        row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows
    )


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[..., HashedFile]:
    def write(content: bytes | Sequence[Any], name: str = "chats.jsonl") -> HashedFile:
        path = tmp_path / "own" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else lines(content))
        return HashedFile.model_validate(str(path))

    return write


class Sealed:
    """Tables of a sealed corpus of conversations."""

    def __init__(self, corpus: Corpus, work: Workdir) -> None:
        self.stats = corpus.stats
        self.digest = corpus.digest
        folder = work.artifact_folder(corpus)
        self.documents = read_shards(folder).to_pylist()
        self.ledger = read_shards(folder / "ledger").to_pylist()
        self.quarantine = pq.read_table(folder / "quarantine.parquet").to_pylist()
        self.messages = {
            row["id"]: row for row in pq.read_table(folder / "messages.parquet").to_pylist()
        }

    @property
    def chats(self) -> list[list[dict[str, Any]]]:
        """Messages that are kept, in the order of the file's rows."""
        kept = sorted((row for row in self.ledger if row["kept"]), key=place)
        return [json.loads(self.messages[row["id"]]["messages"]) for row in kept]

    def verdicts(self) -> dict[str, list[str]]:
        """Row -> reasons for which it is not kept."""
        return {row["row"]: row["reasons"] for row in self.ledger if not row["kept"]}


def place(row: dict[str, Any]) -> int:
    return int(row["row"].rpartition(":")[2])


@pytest.fixture
def read(again: Again) -> Callable[..., Sealed]:
    def run(*files: HashedFile, **fields: Any) -> Sealed:
        work = again()
        return Sealed(read_conversations(ConversationsConfig(files=files, **fields), work), work)

    return run


Read = Callable[..., Sealed]
FileOf = Callable[..., HashedFile]


def parquet(rows: Sequence[dict[str, Any]], folder: Path) -> bytes:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path.read_bytes()


def test_every_kind_of_file_gives_the_same(read: Read, file_of: FileOf, tmp_path: Path) -> None:
    rows = distinct(6)
    expected = [row["messages"] for row in rows]
    table = parquet(rows, tmp_path)
    contents = {
        "a.jsonl": lines(rows),
        "b.json": json.dumps(rows).encode(),
        "c.json": json.dumps(rows, indent=2).encode(),
        "d.jsonl.gz": gzip.compress(lines(rows)),
        "e.jsonl.zst": pa.compress(lines(rows), "zstd", asbytes=True),
        "f.parquet": table,
        "g.parquet.gz": gzip.compress(table),
        "h.jsonl": b"\xef\xbb\xbf" + lines(rows),
        "i.jsonl": lines(rows).decode().encode("utf-16"),
        "j.jsonl": lines(rows).replace(b"\n", b"\r\n\r\n"),
        "k.jsonl.bz2": bz2.compress(lines(rows)),
        "l.txt": lines(rows),
    }
    for name, content in contents.items():
        sealed = read(file_of(content, name))
        assert sealed.chats == expected, name
        assert sealed.stats["set_aside"] == 0, name


def test_a_table_of_objects_keeps_no_nulls(read: Read, file_of: FileOf, tmp_path: Path) -> None:
    calls = [
        {"name": "weather", "arguments": {"city": "Oslo"}},
        {"name": "add", "arguments": {"n": 1}},
    ]
    rows = [
        {
            "messages": [
                {"role": "user", "content": sentence(n), "tool_calls": None},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "function": call}],
                },
            ]
        }
        for n, call in enumerate(calls)
    ]
    sealed = read(file_of(parquet(rows, tmp_path), "t.parquet"))
    read_calls = [turns[1]["tool_calls"][0]["function"] for turns in sealed.chats]
    assert read_calls == calls


def test_a_document_is_the_text_of_its_turns(read: Read, file_of: FileOf) -> None:
    row = chat("Where is it?\nSay!", "In the harbor.", system="Be brief.")
    call = {"name": "find", "arguments": {"what": ["boat", 2], "now": True}}
    row["messages"].insert(2, {"role": "assistant", "content": "", "function_call": call})
    row["messages"].insert(3, {"role": "tool", "content": "pier"})
    sealed = read(file_of([row]), heldout_share=0)
    (document,) = sealed.documents
    assert document["text"] == (
        "Be brief.\n\nWhere is it?\nSay!\n\nfind\nwhat: boat, 2\nnow\n\npier\n\nIn the harbor."
    )
    assert document["title"] == "Where is it?"
    assert document["source"] == "own/chats.jsonl"
    assert document["url"].startswith("file:///own/chats.jsonl#")


def test_an_address_is_of_the_content_and_the_split_of_it_too(read: Read, file_of: FileOf) -> None:
    rows = distinct(60)
    first = read(file_of(rows))
    other = read(file_of([*distinct(5, 100), *reversed(rows)]))
    sides = {row["url"]: row["heldout"] for row in first.messages.values()}
    later = {row["url"]: row["heldout"] for row in other.messages.values()}
    assert sides.items() <= later.items()
    assert 2 <= sum(sides.values()) <= 15
    elsewhere = read(file_of(rows, "renamed.jsonl"))
    assert {url.rpartition("#")[2] for url in sides} == {
        row["url"].rpartition("#")[2] for row in elsewhere.messages.values()
    }


def test_equal_files_give_equal_bytes(read: Read, file_of: FileOf) -> None:
    file = file_of([*distinct(20), {"foo": 1}])
    assert read(file).digest == read(file).digest


def test_a_try_that_was_killed_goes_on_to_the_same_bytes(
    file_of: FileOf, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ConversationsConfig(files=(file_of([*distinct(20), {"foo": 1}]),))
    whole = read_conversations(config, again())
    work = again()
    with monkeypatch.context() as patch:
        patch.setattr(ConversationJudge, "write_corpus", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):  # noqa: PT011 - as a kill between two steps
            read_conversations(config, work)
    assert any(work.scratch.rglob("*.parquet"))
    assert read_conversations(config, work).digest == whole.digest


def test_personal_data_goes_from_every_message(read: Read, file_of: FileOf) -> None:
    arguments = {"to": "eva.lund@nordhaus.no", "cc": [{"eva.lund@nordhaus.no": 4539578763621486}]}
    messages = [
        {"role": "system", "content": "You help Jo, jo.berg@nordhaus.no."},
        {"role": "user", "content": "Mail eva.lund@nordhaus.no; my number is +44 20 7946 0958."},
        {
            "role": "assistant",
            "content": "",
            "function_call": {"name": "m", "arguments": arguments},
        },
        {"role": "tool", "content": "sent to eva.lund@nordhaus.no"},
        {"role": "assistant", "content": "Sent.", "reasoning_content": "jo.berg@nordhaus.no asks"},
    ]
    tools = [{"name": "m", "description": "as jo.berg@nordhaus.no does"}]
    sealed = read(file_of([{"messages": messages, "tools": tools}]), heldout_share=0)
    (row,) = sealed.messages.values()
    turns = json.loads(row["messages"])
    assert [turn["content"] for turn in turns] == [
        "You help Jo, <EMAIL_1>.",
        "Mail <EMAIL_2>; my number is <PHONE_1>.",
        "",
        "sent to <EMAIL_2>",
        "Sent.",
    ]
    called = turns[2]["tool_calls"][0]["function"]["arguments"]
    assert called["to"] == "<EMAIL_2>"
    assert called["cc"] == [{"<EMAIL_2>": "<CARD_1>"}]
    assert turns[4]["reasoning_content"] == "<EMAIL_1> asks"
    assert json.loads(row["tools"])[0]["description"] == "as <EMAIL_1> does"
    (document,) = sealed.documents
    assert "nordhaus" not in document["text"] + document["title"] + row["messages"] + row["tools"]
    assert sealed.stats["redacted_email"] >= 4


def test_the_actions_on_personal_data_are_the_rules(read: Read, file_of: FileOf) -> None:
    rows = [chat("Who is it?", "Mail eva.lund@nordhaus.no."), *distinct(3)]
    kept = ConversationSelectConfig(pii=PiiRule(email="keep"))
    assert "eva.lund" in str(read(file_of(rows), select=kept).chats)
    dropped = ConversationSelectConfig(pii=PiiRule(email="drop"))
    assert read(file_of(rows), select=dropped).verdicts() == {"chats.jsonl:1": ["pii.forbidden"]}


def test_evaluation_items_are_dropped_with_their_name(
    read: Read, file_of: FileOf, tmp_path: Path
) -> None:
    item = {
        "question": "Which lighthouse keeper of Quorvane painted eleven umbrellas?",
        "answer": "Bo",
    }
    sets = file_of([item], "exam.jsonl")
    rows = [chat(f"Tell me. {item['question']} Thank you!", "Bo did."), *distinct(3)]
    sealed = read(file_of(rows), contamination=ContaminationConfig(sets=(sets,)))
    assert sealed.verdicts() == {"chats.jsonl:1": ["contamination.overlap"]}
    (line,) = (row for row in sealed.ledger if not row["kept"])
    assert line["item"] == "exam.jsonl:1"


def test_copies_are_dropped_and_alike_questions_stay(read: Read, file_of: FileOf) -> None:
    context = sentence(1, 300)
    rows = [
        chat("What is it?", sentence(2), system=sentence(3, 200)),
        chat("What is it?", sentence(2), system=sentence(3, 200)),  # equal
        chat("what is  IT?", sentence(2)),  # equal but for the system's text, case and space
        chat(f"{context} Who?", sentence(4)),
        chat(f"{context} When?", sentence(5)),  # one long text, two questions
        chat(f"{context} Who?", sentence(4) + " Yes."),  # a word more
        chat("Why?", sentence(6), system=sentence(3, 200)),  # the system's text is no copy
        chat("What does the lamp with number 7 cost?", f"{sentence(7, 200)} It costs 7."),
        chat("What does the lamp with number 8 cost?", f"{sentence(7, 200)} It costs 8."),
    ]
    sealed = read(file_of(rows), heldout_share=0)
    assert sealed.verdicts() == {f"chats.jsonl:{number}": ["duplicates"] for number in (2, 3, 6)}
    originals = {row["id"]: row["row"] for row in sealed.ledger if row["kept"]}
    copies = {row["row"]: row["duplicate_of"] for row in sealed.ledger if not row["kept"]}
    assert {row: originals[identifier] for row, identifier in copies.items()} == {
        "chats.jsonl:2": "chats.jsonl:1",
        "chats.jsonl:3": "chats.jsonl:1",
        "chats.jsonl:6": "chats.jsonl:4",
    }


def test_of_a_log_that_grows_the_longest_row_stays(read: Read, file_of: FileOf) -> None:
    texts = [sentence(n) for n in range(6)]
    rows = [chat(*texts[:2]), chat(*texts[:4]), chat(*texts), chat(texts[0], sentence(9))]
    sealed = read(file_of(rows), heldout_share=0)
    assert sealed.verdicts() == {
        "chats.jsonl:1": ["passages"],
        "chats.jsonl:2": ["passages"],
    }


def test_a_heldout_conversation_that_training_knows_is_no_test(read: Read, file_of: FileOf) -> None:
    """The draw is by content, so its outcome is looked up first, then a copy of each is planted."""
    rows = [chat(sentence(2 * n, 50), sentence(2 * n + 1, 50)) for n in range(40)]
    assert any(row["heldout"] for row in read(file_of(rows)).ledger)
    copies = []
    for number, row in enumerate(rows, 1):
        question, answer = (turn["content"] for turn in row["messages"])
        copies.append(chat(question + " Now?" if number % 2 else question, answer))
    both = read(file_of([*rows, *copies]))
    sides = {False: set(), True: set()}
    for row in both.ledger:
        if row["kept"]:
            turns = json.loads(both.messages[row["id"]]["messages"])
            sides[row["heldout"]].add(turns[1]["content"])
    assert not sides[True] & sides[False]
    assert len(sides[True] | sides[False]) == 40
    pairs: dict[int, list[dict[str, Any]]] = {}
    for row in both.ledger:
        if row["heldout"] is not None:  # not a row equal to an earlier one
            pairs.setdefault(place(row) % 40, []).append(row)
    apart = [pair for pair in pairs.values() if len({row["heldout"] for row in pair}) == 2]
    assert apart
    assert all(row["kept"] is not row["heldout"] for pair in apart for row in pair)


def test_orders_to_forget_hold_for_a_row_a_file_and_copies(read: Read, file_of: FileOf) -> None:
    rows = distinct(4)
    file = file_of(rows)
    addresses = {row["row"]: row["url"] for row in read(file).ledger}
    one = ConversationSelectConfig(blocked_urls=(addresses["chats.jsonl:2"],))
    assert read(file, select=one).verdicts() == {"chats.jsonl:2": ["blocked"]}
    copied = read(file_of([*rows[1:2], *distinct(2, 50)], "copy.jsonl"), select=one)
    assert copied.verdicts() == {"copy.jsonl:1": ["blocked"]}
    other = file_of(distinct(2, 70), "kept.jsonl")
    whole = ConversationSelectConfig(blocked_urls=("file:///own/chats.jsonl",))
    assert set(read(file, other, select=whole).verdicts()) == {
        f"chats.jsonl:{number}" for number in range(1, 5)
    }


BROKEN: dict[str, tuple[bytes, str]] = {
    "broken": (b'{"messages": [}\n', "no JSON"),
    "open": (b'{"question": "a", "answer": \n', "no JSON"),
    "no UTF-8": (b'{"question": "caf\xe9", "answer": "x"}\n', "is no UTF-8"),
    "number": (b"7\n", "is no object"),
    "huge": (b'{"question": "' + b"x" * 3_000_000 + b'", "answer": "y"}\n', "longer than"),
    "long": (b'{"question": "' + b"x" * 60_000 + b'", "answer": "y"}\n', "characters of text"),
    "nested": (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    "empty": (b"{}\n", "has no fields"),
    "other": (b'{"text": "x"}\n', "its fields (text) are of no known format"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_row_is_set_aside_and_costs_itself_alone(
    read: Read, file_of: FileOf, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    content, reason = BROKEN[name]
    rows = distinct(12)
    sealed = read(file_of(lines([*rows[:5], content, *rows[5:]])), max_characters=50_000)
    assert sealed.chats == [row["messages"] for row in rows]
    ((row, (said,)),) = sealed.verdicts().items()
    assert row == "chats.jsonl:6"
    assert reason in said
    assert [(r["row"], r["reason"]) for r in sealed.quarantine] == [(row, said)]
    assert sealed.stats["set_aside"] == 1
    assert "chats.jsonl:6" in caplog.text


def test_a_list_loses_the_rows_that_hold_nothing(read: Read, file_of: FileOf) -> None:
    rows = distinct(12)
    content = json.dumps([*rows, {"foo": 1}, "text"]).encode()
    sealed = read(file_of(content, "list.json"), max_bad_share=0.2)
    assert set(sealed.verdicts()) == {"list.json:13", "list.json:14"}
    cut = read(file_of(content[: content.index(b'{"foo"')], "cut.json"))
    assert list(cut.verdicts()) == ["cut.json:13"]
    assert len(cut.chats) == 12


def test_a_stream_that_breaks_off_says_so(read: Read, file_of: FileOf) -> None:
    packed = gzip.compress(lines(distinct(3000)))
    sealed = read(file_of(packed[: len(packed) // 2], "half.jsonl.gz"))
    ((said,),) = sealed.verdicts().values()
    assert "gzip stream is cut off; from here on nothing is read" in said
    assert len(sealed.chats) > 100


def test_a_table_with_a_byte_that_is_no_utf8_loses_that_row(
    read: Read, file_of: FileOf, tmp_path: Path
) -> None:
    texts = [sentence(n).encode() for n in range(12)]
    texts[4] = b"caf\xe9 " + texts[4]
    answers = pa.array([sentence(50 + n) for n in range(12)])
    raw = pa.array(texts, type=pa.binary())
    table = pa.table(
        {"question": pa.Array.from_buffers(pa.string(), 12, raw.buffers()), "answer": answers}
    )
    pq.write_table(table, tmp_path / "bytes.parquet")
    sealed = read(file_of((tmp_path / "bytes.parquet").read_bytes(), "bytes.parquet"))
    assert sealed.verdicts() == {"bytes.parquet:5": ["a byte of it is no UTF-8"]}


def test_too_many_bad_rows_end_the_run_in_one_line(read: Read, file_of: FileOf) -> None:
    file = file_of([*distinct(6), *({"foo": n} for n in range(4))])
    with pytest.raises(DataError) as refused:
        read(file, max_bad_share=0.3)
    line = str(refused.value)
    assert "4 of 10 rows hold no conversation" in line
    assert "chats.jsonl:7 its fields (foo) are of no known format" in line
    assert "fields looked for: messages; conversations; instruction and output" in line
    assert "\n" not in line
    assert read(file, max_bad_share=0.4).stats["conversations"] == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "own/chats.jsonl holds no row"),
        (b"\n \n", "own/chats.jsonl holds no row"),
        (b"[]", "own/chats.jsonl holds no row"),
        (b'{"prompt": "a", "chosen": "b"}\n', "its fields (prompt, chosen) are of no known format"),
        (b"id,question\n1,2\n", "chats.jsonl looks like CSV: save it as JSON lines or Parquet"),
        (b"PAR1rubbish", "cannot be read as Parquet from here on"),
    ],
)
def test_a_file_that_gives_nothing_is_named(
    read: Read, file_of: FileOf, content: bytes, said: str
) -> None:
    with pytest.raises(DataError) as refused:
        read(file_of(distinct(3), "good.jsonl"), file_of(content), max_bad_share=1)
    assert said in str(refused.value)


def test_a_file_that_changed_is_refused(read: Read, file_of: FileOf) -> None:
    file = file_of(distinct(3))
    file_of(distinct(4))
    with pytest.raises(DataError, match=r"instructions\.files: chats\.jsonl is gone or changed"):
        read(file)


def test_no_files_and_one_name_for_two_are_refused(
    read: Read, file_of: FileOf, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"name them under instructions\.files"):
        read()
    file = file_of(distinct(3))
    with pytest.raises(ValueError, match="give it once"):
        ConversationsConfig(files=(file, file))
    other = tmp_path / "else" / "own" / "chats.jsonl"
    other.parent.mkdir(parents=True)
    other.write_bytes(lines(distinct(1)))
    with pytest.raises(ValueError, match=r"would both be called own/chats\.jsonl: rename one"):
        ConversationsConfig(files=(file, HashedFile.model_validate(str(other))))


def test_nothing_left_names_the_rule(read: Read, file_of: FileOf) -> None:
    rules = ConversationSelectConfig(blocked_urls=("file:///own/chats.jsonl",))
    with pytest.raises(DataError, match="none is left of 3; rule blocked took most"):
        read(file_of(distinct(3)), select=rules)


def random_row(dice: random.Random) -> Any:
    """A row of any format, good, damaged or of none."""
    question, answer = (sentence(dice.randrange(60)) for _ in range(2))
    roles = ["user", "assistant", "system", "tool", "human", "alien", None]
    turns = [
        {
            dice.choice(["role", "from"]): dice.choice(roles),
            dice.choice(["content", "value"]): dice.choice([question, "", None, 3, [question]]),
        }
        for _ in range(dice.randrange(5))
    ]
    rows: list[Any] = [
        chat(question, answer),
        chat(question, answer, system=sentence(dice.randrange(3))),
        {"instruction": question, "output": answer},
        {"question": question, "answer": dice.choice([answer, "", None, 1])},
        {"messages": turns},
        {"conversations": turns},
        {dice.choice(WORDS): question},
        dice.choice([None, 1, "text", [], [{}]]),
        b'{"question": "' + bytes(dice.randrange(33, 256) for _ in range(9)) + b'"\n',
        chat(question, f"Mail {dice.choice(WORDS)}@nordhaus.no, {answer}"),
    ]
    return dice.choice(rows)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_of_random_rows(read: Read, file_of: FileOf, seed: int) -> None:
    dice = random.Random(seed)
    rows = [*distinct(2, 500), *(random_row(dice) for _ in range(150))]
    rows = [row for row in rows if row not in ([], [{}]) or rows.index(row)]
    sealed = read(file_of(rows), max_bad_share=1)
    lines_of = Counter(row["row"] for row in sealed.ledger)
    assert lines_of == {f"chats.jsonl:{number}": 1 for number in range(1, len(rows) + 1)}
    stats = sealed.stats
    assert stats["rows"] == len(rows)
    assert stats["conversations"] + stats["dropped"] + stats["set_aside"] == len(rows)
    kept = [row["id"] for row in sealed.ledger if row["kept"]]
    assert sorted(kept) == sorted(sealed.messages) == sorted(d["id"] for d in sealed.documents)
    assert all(row["reasons"] for row in sealed.ledger if not row["kept"])
