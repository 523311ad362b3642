"""Pairs of near duplicates that datasketch's MinHash LSH reports, as document numbers."""

import json
import sys
from pathlib import Path

from datasketch import MinHash, MinHashLSH

TEXTS, SIMILARITY = json.loads(Path(sys.argv[1]).read_text()), float(sys.argv[2])


def shingles(text: str) -> list[bytes]:
    words = text.casefold().split()
    return [" ".join(words[at : at + 5]).encode() for at in range(len(words) - 4)]


index, pairs = MinHashLSH(threshold=SIMILARITY, num_perm=128), []
for number, signed in enumerate(MinHash.bulk(map(shingles, TEXTS), num_perm=128)):
    pairs += [(other, number) for other in index.query(signed)]
    index.insert(number, signed)
print(json.dumps(pairs))
