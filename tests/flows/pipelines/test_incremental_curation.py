"""A folder that grows, and the same pages at once, through the real chain: the same kept set."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.flows.pipelines.curating import Curated, curate

FOLDERS = ("first", "second", "third")
WORDS = [f"word{number}" for number in range(3000)]


def page(seed: int, count: int = 260) -> list[str]:
    draw = random.Random(seed)
    return [draw.choice(WORDS) for _ in range(count)]


def pages() -> dict[str, dict[str, str]]:
    """Folder -> name -> text: own pages, copies, near twins in chains, one page inside another."""
    draw = random.Random(11)
    found: dict[str, dict[str, str]] = {folder: {} for folder in FOLDERS}
    for number in range(12):
        words = page(number)
        for step, folder in enumerate(FOLDERS):
            # Each step moves on by 20 words: neighbours are twins, the ends of a chain are none.
            chain = [*words[20 * step :], *page(1000 + number, 20 * step)]
            found[folder][f"chain{number:02d}.txt"] = " ".join(chain)
        found[draw.choice(FOLDERS)][f"copy{number:02d}.txt"] = " ".join(words).upper()
        found[draw.choice(FOLDERS)][f"own{number:02d}.txt"] = " ".join(page(2000 + number))
        inside = [*words, *page(3000 + number, 900)]
        found[draw.choice(FOLDERS)][f"inside{number:02d}.txt"] = " ".join(inside)
    return found


def write(folder: Path, texts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


GIVEN: dict[str, Any] = {"select": {"language": {"allowed": ()}}, "extract": {"shards": 3}}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Curated]:
    """One run after another over a folder to which a folder is added each time, in one store."""
    root = tmp_path_factory.mktemp("grows")
    made = []
    for folder, texts in pages().items():
        write(root / "docs" / folder, texts)
        made.append(curate(root / "store", [f"{root}/docs/**/*.txt"], **GIVEN))
    return made


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    """All at once, elsewhere, the folders written in another order."""
    root = tmp_path_factory.mktemp("at-once")
    for folder, texts in reversed(pages().items()):
        write(root / "docs" / folder, texts)
    return curate(root / "store", [f"{root}/docs/**/*.txt"], **GIVEN)


def test_increments_keep_what_one_batch_keeps(versions: list[Curated], batch: Curated) -> None:
    assert set(versions[-1].kept) == set(batch.kept)
    assert versions[-1].corpus.digest == batch.corpus.digest
    assert 0 < len(batch.kept) < len(batch.ledger)
    sizes = [len(version.ledger) for version in versions]
    assert sizes == sorted(set(sizes))


def test_no_page_is_dropped_for_one_that_was_dropped(
    versions: list[Curated], batch: Curated
) -> None:
    for found in (*versions, batch):
        kept = {row["id"] for row in found.kept.values()}
        twins = [
            row["duplicate_of"]
            for row in found.ledger.values()
            if row["duplicate_of"] and row["reasons"]
        ]
        assert twins
        assert set(twins) <= kept
    rules = {rule for row in batch.ledger.values() for rule in row["reasons"]}
    assert {"duplicates", "passages"} <= rules
    chained = [url for url in batch.kept if "/first/chain" in url or "/third/chain" in url]
    ends = {url.rpartition("/")[2] for url in chained}
    assert len(chained) > len(ends)  # both ends of a chain stay where its middle fell


def test_what_is_added_to_a_list_is_dropped_for_what_was_there(tmp_path: Path) -> None:
    """Copies of pages come into files whose names are before those of the pages they are of."""
    words = [" ".join(page(4000 + number)) for number in range(8)]
    write(tmp_path / "old", {f"z{number}.txt": text for number, text in enumerate(words)})
    write(tmp_path / "new", {f"a{number}.txt": text.upper() for number, text in enumerate(words)})
    globs = [f"{tmp_path}/old/*.txt", f"{tmp_path}/new/*.txt"]
    before = curate(tmp_path / "store", globs[:1], **GIVEN)
    after = curate(tmp_path / "store", globs, **GIVEN)
    assert len(before.kept) == 8
    assert set(after.kept) == set(before.kept)


PROGRAM = """
import json, sys
from pathlib import Path
from tests.flows.pipelines.curating import curate
print(curate(Path(sys.argv[1]), [sys.argv[2]], **json.loads(sys.argv[3])).corpus.digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_two_runs_give_identical_digests(tmp_path: Path, batch: Curated, seed: str) -> None:
    """In processes whose sets have other orders."""
    for folder, texts in pages().items():
        write(tmp_path / "docs" / folder, texts)
    given = '{"select": {"language": {"allowed": []}}, "extract": {"shards": 3}}'
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), f"{tmp_path}/docs/**/*.txt", given],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert told.stdout.split() == [batch.corpus.digest], told.stderr[-2000:]
