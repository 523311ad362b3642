"""The frame of a stream's events, encoded once, around any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.response_format import (
    CHAT_FORMAT,
    COMPLETION_FORMAT,
    ResponseEnvelope,
    ResponseFormat,
    encode_event,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("shape", [CHAT_FORMAT, COMPLETION_FORMAT])
@given(model=TEXTS, text=TEXTS)
def test_an_event_is_that_of_its_chunk(shape: ResponseFormat, model: str, text: str) -> None:
    envelope = ResponseEnvelope("id-1", 1, model, 'f"00"d', shape)
    for piece in (text, '""', "\n\n"):
        assert envelope.text_event(piece) == encode_event(envelope.text_chunk(piece))
        assert envelope.text_event(piece).count(b"\n") == 2
