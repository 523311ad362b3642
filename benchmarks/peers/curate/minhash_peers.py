"""MinHash signatures a second of another tool, word 5-shingles included."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOOL, TEXTS, PERMUTATIONS = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])


def shingles(text: str) -> list[str]:
    words = text.casefold().split()
    return [" ".join(words[at : at + 5]) for at in range(len(words) - 4)]


def with_datasketch(texts: list[str]) -> Any:
    from datasketch import MinHash

    sets = [[shingle.encode() for shingle in shingles(text)] for text in texts]
    return MinHash.bulk(sets, num_perm=PERMUTATIONS)


def with_rensa(texts: list[str]) -> Any:
    from rensa import RMinHash

    signatures = []
    for text in texts:
        signature = RMinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update(shingles(text))
        signatures.append(signature.digest())
    return signatures


def with_datatrove(texts: list[str]) -> Any:
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config = MinhashConfig(n_grams=5, num_buckets=PERMUTATIONS // 8, hashes_per_bucket=8)
    step = MinhashDedupSignature(output_folder="/nonexistent", config=config)
    return [step.get_signature(step.get_shingles(text)) for text in texts]


SIGN: dict[str, Callable[[list[str]], Any]] = {
    "datasketch": with_datasketch,
    "rensa": with_rensa,
    "datatrove": with_datatrove,
}

SIGN[TOOL](TEXTS[:5])
began = time.perf_counter()
SIGN[TOOL](TEXTS)
print(json.dumps(len(TEXTS) / (time.perf_counter() - began)))
