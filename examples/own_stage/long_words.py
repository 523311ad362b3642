"""A stage of one's own: the long words of a corpus, as a report with an interval.

python long_words.py
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

import modelmill
from modelmill import Corpus, Report, ReportConfig, Workdir, mean_interval, read_shards

PAGES = Path(__file__).parents[1] / "own_pages" / "library.yaml"
WORD = re.compile(r"[A-Za-z]+")


class LongWordsConfig(ReportConfig):
    """Words that count as long."""

    figures = ("long_words",)
    letters: int = Field(default=7, ge=1, description="fewest letters of a long word")


def share_of_long_words(text: str, letters: int) -> float:
    """Share of a page's words that have so many letters."""
    words = WORD.findall(text)
    return sum(len(word) >= letters for word in words) / max(1, len(words))


def measure_long_words(config: LongWordsConfig, corpus: Corpus, work: Workdir) -> Report:
    """Report the share of long words, its 95 % interval over pages."""
    texts = read_shards(work.artifact_folder(corpus), ["text"])["text"].to_pylist()
    shares = [share_of_long_words(text, config.letters) for text in texts]
    figure = mean_interval(shares, name="long_words")
    config.write_report(work.folder, [figure])
    return work.seal(Report, stats={"long_words": figure.value})


def main() -> None:
    """Curate the pages, then measure the kept ones: a second time it comes from the store."""
    run = modelmill.run(PAGES, until="select")
    for letters in (7, 10, 7):
        report = modelmill.stage(
            measure_long_words, {"letters": letters}, corpus=run["select"], show=True
        )
        figure = report.figures["long_words"]
        print(f"{letters} letters: {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]")


if __name__ == "__main__":
    main()
