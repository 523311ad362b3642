"""fastText training in a fresh process: this module, run by ``python -m`` with a JSON config.

In a used process with few threads fastText leaves a part of its input matrix uninitialised
(fastText issue 1061). A fresh process, one thread and large blocks straight from the system
(``MALLOC_MMAP_THRESHOLD_``), which come zeroed, give the same good model each time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path
from components.core.process.child_programs import run_program

FRESH_PROCESS_ENV = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
NOT_FINITE_STATUS = 3
"""Exit status of a training that came out with NaN."""
ATTEMPTS = 3
"""Trainings that may come out with NaN before that is an error."""


class FasttextConfig(StageConfig):
    """Settings of a supervised fastText model (Joulin et al. 2017, arXiv:1607.01759)."""

    dimensions: int = Field(default=16, ge=2, le=300, description="width of a word's vector")
    epochs: int = Field(default=8, ge=1, le=200, description="passes over the lines")
    rate: float = Field(default=0.5, gt=0, le=5, description="learning rate")
    word_ngrams: int = Field(default=2, ge=1, le=5, description="longest word n-gram")
    buckets: int = Field(default=50_000, ge=100, le=5_000_000, description="hash slots of n-grams")
    seed: int = Field(default=0, ge=0, description="seed of the initial vectors")


class FasttextTraining(FasttextConfig):
    """One training: the settings and paths that the child process is given."""

    lines: Path = Field(description="file of training rows: __label__NAME and a line of text")
    model: Path = Field(description="path the model is written to")


def train_in_fresh_process(training: FasttextTraining) -> None:
    """Train in a fresh process; the model file appears whole or not at all.

    Raises:
        DataError: fastText failed, or gave NaN each time.
    """
    command = [sys.executable, "-m", __name__, training.model_dump_json()]
    for _ in range(ATTEMPTS):
        training_program = run_program(command, environment=FRESH_PROCESS_ENV)
        if training_program.exit_code == 0:
            return
        if training_program.exit_code != NOT_FINITE_STATUS:
            raise DataError(f"classifier: fastText failed: {training_program.last_line()}")
    raise DataError(f"classifier: fastText gave a model with NaN {ATTEMPTS} times")


def train_and_save(training: FasttextTraining) -> int:
    """Train in this process and save the model; the exit status."""
    import fasttext
    import numpy as np

    model = fasttext.train_supervised(
        input=str(training.lines),
        dim=training.dimensions,
        epoch=training.epochs,
        lr=training.rate,
        wordNgrams=training.word_ngrams,
        minn=2,
        maxn=4,
        bucket=training.buckets,
        seed=training.seed,
        thread=1,
        verbose=0,
    )
    matrices = (model.get_input_matrix(), model.get_output_matrix())
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        return NOT_FINITE_STATUS
    with atomic_path(training.model) as temporary:
        model.save_model(str(temporary))
    return 0


if __name__ == "__main__":
    sys.exit(train_and_save(FasttextTraining.model_validate_json(sys.argv[1])))
