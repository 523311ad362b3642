"""Frame of documents, one row each: the columns that a suite can expect something of.

The text stays in its shard.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pyarrow as pa

from components.text.markdown_sections import without_fences

if TYPE_CHECKING:
    import pandas as pd

FRAME_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("url", pa.string()),
        pa.field("source", pa.string()),
        pa.field("title", pa.string()),
        pa.field("text_sha256", pa.string()),  # to expect different texts
        pa.field("characters", pa.int64()),
        pa.field("words", pa.int64()),  # separated by white space, code included
        pa.field("lines", pa.int64()),
        pa.field("headings", pa.int64()),
        pa.field("mean_word_length", pa.float64()),
        pa.field("code_share", pa.float64()),  # of characters, inside fenced blocks
        pa.field("non_ascii", pa.float64()),  # share of characters
        pa.field("control_characters", pa.int64()),  # bar tab and newline
        pa.field("replacement_characters", pa.int64()),  # U+FFFD: a decoding that went wrong
    ]
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def frame_of_shard(table: pa.Table) -> pa.Table:
    """Compute the frame's rows of one corpus shard (in a worker)."""
    columns = table.select(["id", "url", "source", "title", "text", "headings"]).to_pylist()
    return pa.Table.from_pylist([_row(document) for document in columns], schema=FRAME_SCHEMA)


def _row(document: dict[str, object]) -> dict[str, object]:
    text = str(document["text"])
    headings = document["headings"]
    words = text.split()
    length = max(1, len(text))
    return {
        **{name: document[name] for name in ("id", "url", "source", "title")},
        "text_sha256": hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(),
        "characters": len(text),
        "words": len(words),
        "lines": text.count("\n") + 1,
        "headings": len(headings) if isinstance(headings, list) else 0,
        "mean_word_length": sum(map(len, words)) / max(1, len(words)),
        "code_share": (len(text) - len(without_fences(text))) / length,
        "non_ascii": (len(text) - len(text.encode("ascii", "ignore"))) / length,
        "control_characters": len(_CONTROL.findall(text)),
        "replacement_characters": text.count("�"),
    }


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert the frame to pandas, which Great Expectations takes."""
    frame: pd.DataFrame = table.to_pandas()
    return frame
