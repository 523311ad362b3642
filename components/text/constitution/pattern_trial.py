"""Searches texts for patterns within a limit of processor time each; run as a program of its own.

    python -I components/text/constitution/pattern_trial.py < '{"patterns": [...], "texts": [[...],
    ...]}'

Matching lets no signal through once a pattern of alternatives backtracks (seen in Python 3.11), so
only the kernel can end it: the program sets ``RLIMIT_CPU`` anew before each pattern, and the number
it wrote last is that of the pattern it died of. It imports the standard library alone, to be quick.
"""

from __future__ import annotations

import json
import re
import resource
import sys

PATTERN_SECONDS = 1
"""Of processor time a pattern, counted from the next whole second: the kernel's unit."""


def main() -> None:
    """Try every pattern on its texts; each one's number is written before it is tried."""
    trial = json.load(sys.stdin)
    for number, (pattern, texts) in enumerate(zip(trial["patterns"], trial["texts"], strict=True)):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + PATTERN_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        for text in texts:
            re.search(pattern, text, re.IGNORECASE)


if __name__ == "__main__":
    main()
