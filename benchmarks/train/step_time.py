"""Step time and peak memory of the pretraining stage on random documents.

    python -m benchmarks.train.step_time CONFIG.json WARM_UPS

prints [seconds a step, megabytes at the peak beyond those of the imports]. It is a program, since
peak memory is that of a whole process.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from components.core.progress import Progress
from components.core.store.artifact import Lineage, Tokens
from components.core.store.workdir import Workdir
from components.text.token_arrays import save_split
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig

_TOKENS, _DOCUMENT = 200_000, 700


def random_tokens(root: Path, vocabulary: int) -> Tokens:
    """Tokens of random documents as long as documentation: speed does not depend on content."""
    draw = np.random.default_rng(0)
    documents: list[list[int]] = []
    while sum(map(len, documents)) < _TOKENS:
        length = int(draw.exponential(_DOCUMENT)) + 1
        documents.append([*draw.integers(1, vocabulary, length).tolist(), 0])
    work = Workdir.temporary(root, component="bench.drawn")
    save_split(work.folder, "train", documents, vocabulary)
    save_split(work.folder, "heldout", documents[:2], vocabulary)
    meta = {"vocabulary": vocabulary, "eos": 0, "train_bytes": _TOKENS, "heldout_bytes": _TOKENS}
    (work.folder / "meta.json").write_text(json.dumps(meta))
    return work.seal(Tokens)


def measure_step_seconds(
    config: PretrainConfig, tokens: Tokens, root: Path, warm_ups: int
) -> float:
    """Mean seconds of a step of the pretraining stage.

    Args:
        config: recipe with ``steps`` set.
        tokens: training data below ``root``.
        root: folder of the artifacts.
        warm_ups: first steps that are left out.
    """
    ends: list[float] = []

    def listen(progress: Progress) -> None:
        if progress.done:
            ends.append(time.perf_counter())

    key = Workdir.temporary(root).key
    lineage = Lineage(component="bench.pace", code="", config="")
    pretrain(config, tokens, Workdir(root, key, lineage, progress=Progress(listener=listen)))
    assert len(ends) == config.steps
    return (ends[-1] - ends[warm_ups - 1]) / (len(ends) - warm_ups)


def main() -> None:
    import torch  # noqa: F401 - its own memory is not the training's

    import components.train.trainer.training_loop  # noqa: F401

    config = PretrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tokens = random_tokens(root, config.shape.vocabulary)
        before = psutil.Process().memory_info().rss
        seconds = measure_step_seconds(config, tokens, root, int(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps([seconds, (peak - before) / 2**20]) + "\n")


if __name__ == "__main__":
    main()
