"""Chain on Kedro, which has no cache: a second run makes only missing outputs."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


class NumberFile(AbstractDataset):  # type: ignore[misc]
    """One number in a text file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _load(self) -> int:
        return int(self._path.read_text())

    def _save(self, data: int) -> None:
        self._path.write_text(str(data))

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}


def add_one(number: int) -> int:
    return number + 1


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "0").write_text("0")
    names = [f"n{index}" for index in range(STEPS + 1)]
    catalog = DataCatalog({name: NumberFile(FOLDER / name[1:]) for name in names})
    steps = [node(add_one, source, target, name=target) for source, target in pairwise(names)]
    SequentialRunner().run(pipeline(steps), catalog, only_missing_outputs=True)
    assert (FOLDER / str(STEPS)).read_text() == str(STEPS)
