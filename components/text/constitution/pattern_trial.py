"""Program that searches texts for patterns within a limit of processor time each.

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
"""Limit of processor time per pattern, from the next whole second on: the kernel's unit."""


def main() -> None:
    """Try every pattern on its texts; writes each one's number before it tries it."""
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
