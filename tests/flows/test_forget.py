"""A page is forgotten: found everywhere before, nowhere after, and the runs to come leave it out."""

from __future__ import annotations

import gzip
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.core.settings import Settings
from components.lineage.orders import orders_path
from tests.flows.conftest import AS_OF, Mill, states

SENTENCE = "The vermilion heron of Lake Quorvane counted eleven brass umbrellas before breakfast."
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "is",
    "for",
    "on",
    "with",
    "as",
    "this",
    "by",
    "from",
    "are",
    "be",
    "or",
    "which",
    "all",
    "each",
    "when",
    "table",
    "value",
    "number",
    "list",
    "name",
    "file",
    "result",
    "call",
    "other",
    "same",
    "first",
    "last",
    "long",
    "short",
    "keep",
    "read",
    "write",
    "take",
    "give",
    "hold",
    "bring",
    "follow",
    "begin",
    "close",
    "open",
    "count",
    "order",
    "place",
    "reason",
    "answer",
    "question",
    "morning",
]


def sentence(dice: random.Random) -> str:
    return " ".join(dice.choice(WORDS) for _ in range(dice.randint(8, 16))).capitalize() + "."


def page(number: int) -> str:
    """Some paragraphs that no other page has; the first page plants a sentence."""
    dice = random.Random(number)
    paragraphs = [" ".join(sentence(dice) for _ in range(6)) for _ in range(6)]
    if number == 0:
        paragraphs.insert(3, SENTENCE)
    return "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


@dataclass
class Site:
    """Pages served on the loopback, with what was asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def planted(self) -> str:
        return f"{self.address}/page0.html"

    def sets(self) -> list[str]:
        given = [
            AS_OF,
            f"scrape.seeds=[{self.address}/]",
            "scrape.allow_private=true",
            "scrape.delay_seconds=0",
            "scrape.shards=2",
            "name=forgets",
        ]
        return [word for one in given for word in ("--set", one)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    links = "".join(f'<li><a href="/page{number}.html">{number}</a></li>' for number in range(12))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            name = self.path.strip("/")
            found = name == "" or name.startswith("page")
            body = page(int(name[4:-5])) if name.startswith("page") else f"<ul>{links}</ul>"
            html = f"<html><head><title>{name}</title></head><body><main><h1>Page {name}</h1>"
            content = f"{html}{body}</main></body></html>".encode()
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    return Mill(tmp_path / "home")


def holding(home: Path, text: str = SENTENCE) -> set[str]:
    """Files that hold the text, unpacked by the test's own hand: the search is not trusted here."""
    found = set()
    for path in (p for p in home.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        elif content[:4] == b"PAR1":
            content = str(pq.read_table(path).to_pylist()).encode()
        if text.encode() in content:
            found.add(path.relative_to(home).as_posix())
    return found


def run_until(mill: Mill, site: Site, stage: str = "tokens") -> dict[str, Any]:
    return mill.answer("run", "nano", "--plain", *site.sets(), "--until", stage)


def test_planted_forgotten_and_nowhere_after(mill: Mill, site: Site) -> None:
    ran = run_until(mill, site)
    places = {Path(name).parts[0] for name in holding(mill.home)}
    assert places == {"datasets", "store"}
    before = mill.answer("trace", site.planted)
    assert before["verdicts"][0]["kept"]
    assert before["reached"][0]["tokens"][0]["tokens"] > 50
    found = mill("forget", SENTENCE, "--verify")
    assert found.returncode == 1
    assert "(tokens)" in found.stdout

    listed = mill.answer("forget", site.planted, "--dry-run")
    assert listed["affected"]["pages"] == [site.planted]
    assert listed["affected"]["kinds"]["pages"] == 1
    assert listed["affected"]["kinds"]["tokens"] == 1
    assert not orders_path(Settings(mill.home, mill.home)).exists()

    (mill.home / "notes.txt").write_text(f"as an example: {SENTENCE}")
    refused = mill("forget", site.planted, "--purge", "--json")
    assert refused.returncode == 2
    assert "say --yes" in refused.stderr
    done = mill.answer("forget", site.planted, "--why", "asked", "--purge", "--yes")
    assert done["purged"]["datasets"] == 1
    assert done["left"] == []
    assert holding(mill.home) == set()
    assert mill.answer("forget", SENTENCE, "--verify")["clean"]
    assert mill.answer("forget", site.planted, "--verify")["clean"]
    assert not (mill.home / "notes.txt").exists()
    assert not (mill.home / "purge.json").exists()
    sealed = {step["artifact"] for step in ran["steps"]}
    assert not [name for name in sealed if (mill.home / "store" / name).exists()]
    again = mill.answer("forget", site.planted, "--purge", "--yes")
    assert not again["new"]


def test_a_pending_order_leaves_the_page_out_and_asks_nobody_again(mill: Mill, site: Site) -> None:
    run_until(mill, site, "select")
    site.asked.clear()
    mill.answer("forget", site.planted)
    ran = run_until(mill, site, "select")
    assert states(ran)["scrape"] == "Completed"
    assert site.asked == []
    told = mill.answer("trace", site.planted)
    reasons = [row["reason"] for crawl in told["crawls"] for row in crawl["fetched"]]
    assert sorted(reasons) == ["", "on the blocklist"]
    (corpus,) = (step["artifact"] for step in ran["steps"] if step["stage"] == "select")
    assert not [n for n in holding(mill.home) if n.startswith(f"store/{corpus}")]
    assert set(states(run_until(mill, site, "select")).values()) == {"Cached"}
    # What was made without it is kept by a purge, and found again by the next run.
    mill.answer("forget", site.planted, "--purge", "--yes")
    assert holding(mill.home) == set()
    assert set(states(run_until(mill, site, "select")).values()) == {"Cached"}
    assert site.asked == []


def test_an_order_for_another_page_costs_a_copy(mill: Mill, site: Site) -> None:
    first = run_until(mill, site, "extract")
    mill.answer("forget", "nobody.example")
    second = run_until(mill, site, "extract")
    assert states(second) == {"scrape": "Completed", "extract": "Cached"}
    assert first["steps"][0]["digest"] == second["steps"][0]["digest"]


def test_a_purge_that_is_killed_goes_on(mill: Mill, site: Site) -> None:
    run_until(mill, site)
    dice = random.Random()
    command = mill.command("forget", site.planted, "--purge", "--yes")
    for _ in range(12):
        process = subprocess.Popen(
            command, cwd=mill.checkout, env=mill.environment(), stdout=-3, stderr=-3
        )
        while process.poll() is None and not (mill.home / "purge.json").exists():
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (mill.home / "purge.json").exists():
            break
    done = mill("forget", site.planted, "--purge", "--yes")
    assert done.returncode == 0, done.stderr
    assert holding(mill.home) == set()
    assert not list((mill.home / "store" / "sealed").iterdir())


def test_a_no_changes_nothing(mill: Mill, site: Site) -> None:
    run_until(mill, site, "extract")
    done = subprocess.run(
        mill.command("forget", site.planted, "--purge"),
        cwd=mill.checkout,
        env=mill.environment(),
        input="n\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "nothing was deleted" in done.stderr
    assert holding(mill.home)
    assert not (mill.home / "blocklist.jsonl").exists()
