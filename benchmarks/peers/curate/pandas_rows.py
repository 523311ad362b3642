"""Texts that pandas reads from every file of a folder, each with the reader for its suffix.

    pandas_rows.py FOLDER

Prints ``{file: [text of a cell, …]}``; a file that raises gives none.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

READERS: dict[str, Callable[[Path], Any]] = {
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".json": pd.read_json,
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
    ".arrow": pd.read_feather,
}


def read_texts(path: Path) -> list[str]:
    """Texts in the cells of a table."""
    suffix = next((part for part in path.suffixes if part in READERS), "")
    if not suffix:
        return []
    try:
        frame = READERS[suffix](path)
        cells = [cell for _, column in frame.items() for cell in column.tolist()]
    except Exception:
        return []
    return [cell for cell in cells if isinstance(cell, str)]


def main() -> None:
    folder = Path(sys.argv[1])
    texts = {path.name: read_texts(path) for path in sorted(folder.iterdir())}
    sys.stdout.write(json.dumps(texts) + "\n")


if __name__ == "__main__":
    main()
