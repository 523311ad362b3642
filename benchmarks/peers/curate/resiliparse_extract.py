"""Texts and pages a second of resiliparse's main-content extraction.

    resiliparse_extract.py PAGES.json REPEATS

``PAGES.json`` maps names to HTML. Prints ``{"texts": {name: text}, "seconds": [a pass, …]}``,
seconds of processor time.
"""

import json
import sys
import time
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text


def main() -> None:
    pages = json.loads(Path(sys.argv[1]).read_bytes())
    seconds, texts = [], {}
    for _ in range(int(sys.argv[2])):
        began = time.process_time()
        for name, page in pages.items():
            texts[name] = extract_plain_text(page, main_content=True, alt_texts=False)
        seconds.append(time.process_time() - began)
    sys.stdout.write(json.dumps({"texts": texts, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
