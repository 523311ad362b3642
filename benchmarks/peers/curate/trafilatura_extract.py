"""Texts and pages a second of trafilatura in the mode ``default``, ``fast`` or ``precision``.

    trafilatura_extract.py PAGES.json MODE REPEATS

``PAGES.json`` maps names to HTML. Prints ``{"texts": {name: text}, "seconds": [a pass, …]}``,
seconds of processor time.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import trafilatura

MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": {"fast": True},
    "precision": {"favor_precision": True},
}


def main() -> None:
    pages = json.loads(Path(sys.argv[1]).read_bytes())
    mode, repeats = MODES[sys.argv[2]], int(sys.argv[3])
    seconds, texts = [], {}
    for _ in range(repeats):
        began = time.process_time()
        for name, page in pages.items():
            texts[name] = trafilatura.extract(page, include_comments=False, **mode) or ""
        seconds.append(time.process_time() - began)
    sys.stdout.write(json.dumps({"texts": texts, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
