from __future__ import annotations

import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.token_bytes import token_bytes
from serving.engine.detokenize import TextStream

TEXT = "naïve 日本語 🦊 end"


def test_pieces_are_whole_characters_and_join_to_the_text(tokenizer: ChatTokenizer) -> None:
    ids = tokenizer.encode_text(TEXT)
    stream = TextStream(token_bytes(tokenizer))
    pieces = [stream.push(token) for token in ids] + [stream.finish()]
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)
    assert len(ids) > len(TEXT)  # some characters came in several tokens


def test_a_character_cut_off_at_the_end_is_shown_as_replaced(tokenizer: ChatTokenizer) -> None:
    fox = tokenizer.encode_text("🦊")
    assert len(fox) > 1
    stream = TextStream(token_bytes(tokenizer))
    assert "".join(stream.push(token) for token in fox[:-1]) == ""
    assert stream.finish() == "\ufffd"


def test_special_tokens_have_no_text(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(token_bytes(tokenizer))
    assert "".join(stream.push(token) for token in range(5)) + stream.finish() == ""


@pytest.mark.parametrize(
    ("stops", "shown"),
    [
        (["語"], "naïve 日本"),
        (["zzz"], TEXT),
        (["e 日", "nope"], "naïv"),
        (["🦊 e"], "naïve 日本語 "),
    ],
)
def test_a_stop_string_ends_the_text_and_never_shows(
    tokenizer: ChatTokenizer, stops: list[str], shown: str
) -> None:
    stream = TextStream(token_bytes(tokenizer), stops)
    pieces = []
    for token in tokenizer.encode_text(TEXT):
        pieces.append(stream.push(token))
        assert not any(stop[0] == piece[-1:] for piece in pieces for stop in stops if piece)
        if stream.stopped:
            break
    pieces.append(stream.finish())
    assert "".join(pieces) == shown
    assert stream.stopped is (shown != TEXT)


def test_what_only_looked_like_a_stop_string_is_shown_in_the_end(tokenizer: ChatTokenizer) -> None:
    stream = TextStream(token_bytes(tokenizer), ["end of it"])
    pieces = [stream.push(token) for token in tokenizer.encode_text("the end")]
    assert "".join(pieces) == "the "
    assert stream.finish() == "end"


@pytest.mark.parametrize(
    ("text", "shown", "stopped"),
    [
        ("so <call>a<b", "so <call>a<b", False),
        ("so <b> <call>", "so ", True),
        ("so <cal", "so ", True),
        ("so; <call>", "so", True),
        ("<call>;", "<call>;", False),
    ],
)
def test_nothing_is_searched_behind_an_opening(text: str, shown: str, stopped: bool) -> None:
    """Byte by byte: ``<`` is a stop string unless ``<call>`` begins with it."""
    table = [bytes([byte]) for byte in range(256)]
    stream = TextStream(table, ["<", ";"], unsearched_from="<call>")
    assert "".join(stream.push(byte) for byte in text.encode()) + stream.finish() == shown
    assert stream.stopped == stopped


def test_an_empty_opening_stands_before_all_text() -> None:
    stream = TextStream([b"a", b"b"], ["b"], unsearched_from="")
    assert [stream.push(0), stream.push(1), stream.stopped] == ["a", "b", False]
