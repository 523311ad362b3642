"""Texts that datatrove's readers give for every file of a folder, each with its reader.

    datatrove_rows.py FOLDER

Prints ``{file: [text, …]}``; a file that raises gives what came before.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datatrove.pipeline.readers import CSVReader, IpcReader, JsonlReader, ParquetReader

READERS = {
    ".jsonl": JsonlReader,
    ".json": JsonlReader,
    ".csv": CSVReader,
    ".parquet": ParquetReader,
    ".arrow": IpcReader,
    ".feather": IpcReader,
}


def read_texts(path: Path) -> list[str]:
    """Texts of the documents of one file."""
    kind: Any = next((READERS[part] for part in path.suffixes if part in READERS), None)
    if kind is None:
        return []
    texts: list[str] = []
    try:
        for document in kind(str(path.parent), glob_pattern=path.name)():
            texts += [document.text] if isinstance(document.text, str) else []
    except Exception:
        return texts
    return texts


def main() -> None:
    folder = Path(sys.argv[1])
    texts = {path.name: read_texts(path) for path in sorted(folder.iterdir())}
    sys.stdout.write(json.dumps(texts) + "\n")


if __name__ == "__main__":
    main()
