"""Documents a second of datatrove's four quality filters, applied one after another."""

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

TEXTS = json.loads(Path(sys.argv[1]).read_text())
FILTERS = [
    GopherQualityFilter(),
    GopherRepetitionFilter(),
    C4QualityFilter(),
    FineWebQualityFilter(),
]


def apply_filters(texts: list[str]) -> None:
    """Apply every filter to every document, rejected ones too."""
    for number, text in enumerate(texts):
        for quality_filter in FILTERS:
            quality_filter.filter(Document(text=text, id=str(number)))


apply_filters(TEXTS[:5])  # loads the tokenizer
began = time.perf_counter()
apply_filters(TEXTS[5:])
print(json.dumps((len(TEXTS) - 5) / (time.perf_counter() - began)))
