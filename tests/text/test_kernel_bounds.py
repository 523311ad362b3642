"""No kernel reads outside its buffers: all are run once with bounds checked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np, pyarrow as pa
from components.text.kernels.compiled import compiled
from components.text.dedup.long_passages import fingerprints
from components.text.dedup.shingles import band_keys, shingle_sets, signatures
from components.text.document_statistics import document_statistics
from tests.collect.extraction.mutated_pages import known_pages, mutated
from components.collect.extraction.main_text import main_text

@compiled
def beyond(data, at):
    return data[at]

try:
    beyond(np.zeros(2, dtype=np.uint8), 2)
except IndexError:
    pass
else:
    raise SystemExit("bounds are not checked")

pages = known_pages(60)
texts = [*mutated(pages, 1500, seed=3), *pages]
for page in pages:
    try:
        texts.append(main_text(page, "text/html", "n").text)
    except ValueError:
        pass
texts += ["", "a", "\\u00e9", "\\U0001f600" * 9, "\\n" * 9, "\\u0e01" * 40]
column = pa.chunked_array([pa.array([t.encode("utf-8", "replace").decode() for t in texts])])
document_statistics(column, short_line=30)
signed, _ = signatures(column, permutations=128, seed=1)
band_keys(signed, bands=20, rows=6)
shingle_sets(column, np.arange(len(texts)))
fingerprints(column, length=8, guarantee=1)
print("read", len(texts))
"""


@pytest.mark.slow
def test_every_kernel_stays_in_its_buffers() -> None:
    given = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=given, capture_output=True, text=True, timeout=900
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.startswith("read")
