"""A page is forgotten: found everywhere before, nowhere after, and the runs to come leave it out."""

from __future__ import annotations

import gzip
import json
import random
import shutil
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
from components.core.store.artifact import Pages
from components.core.store.lineage_graph import ArtifactGraph
from components.lineage.forget_orders import orders_path
from tests.flows.conftest import AS_OF, CommandLine, states

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


@pytest.fixture(scope="module")
def crawled(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CommandLine, dict[str, Any]]:
    """A workspace with crawl, corpora, dataset and tokens, and what the run said."""
    modelmill = CommandLine(tmp_path_factory.mktemp("crawled") / "home")
    return modelmill, run_until(modelmill, site)


@pytest.fixture
def modelmill(crawled: tuple[CommandLine, dict[str, Any]], tmp_path: Path) -> CommandLine:
    """A copy of it."""
    shutil.copytree(crawled[0].home, tmp_path / "home", symlinks=True)
    return CommandLine(tmp_path / "home")


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


def from_pages(home: Path) -> list[str]:
    """Sealed pages and what came from any; what was learnt from a user's examples alone stays."""
    graph = ArtifactGraph.read(home / "store")
    return [node.stage for node in graph if node.parents or node.format == Pages.format]


def run_until(modelmill: CommandLine, site: Site, stage: str = "tokens") -> dict[str, Any]:
    return modelmill.answer("run", "nano", "--plain", *site.sets(), "--until", stage)


def test_planted_forgotten_and_nowhere_after(
    modelmill: CommandLine, site: Site, crawled: tuple[CommandLine, dict[str, Any]]
) -> None:
    places = {Path(name).parts[0] for name in holding(modelmill.home)}
    assert places == {"datasets", "store"}
    before = modelmill.answer("trace", site.planted)
    assert before["verdicts"][0]["kept"]
    assert before["reached"][0]["tokens"][0]["tokens"] > 50
    found = modelmill("forget", SENTENCE, "--verify")
    assert found.returncode == 1
    assert "(tokens)" in found.stdout

    listed = modelmill.answer("forget", site.planted, "--dry-run")
    assert listed["affected"]["pages"] == [site.planted]
    assert listed["affected"]["kinds"]["pages"] == 1
    assert listed["affected"]["kinds"]["tokens"] == 1
    planned = {place["place"]: place["goes"] for place in listed["places"]}
    assert {item["name"] for item in planned["datasets"]} == set(listed["affected"]["datasets"])
    assert len(planned["store"]) == len(listed["affected"]["artifacts"])
    assert all(item["bytes"] > 0 for item in planned["store"])
    assert not orders_path(Settings(modelmill.home, modelmill.home)).exists()

    (modelmill.home / "notes.txt").write_text(f"as an example: {SENTENCE}")
    refused = modelmill("forget", site.planted, "--purge", "--json")
    assert refused.returncode == 2
    assert "pass --yes" in refused.stderr
    done = modelmill.answer("forget", site.planted, "--why", "asked", "--purge", "--yes")
    assert done["purged"]["datasets"] == 1
    assert done["left"] == []
    assert holding(modelmill.home) == set()
    assert modelmill.answer("forget", SENTENCE, "--verify")["clean"]
    assert modelmill.answer("forget", site.planted, "--verify")["clean"]
    assert not (modelmill.home / "notes.txt").exists()
    assert not (modelmill.home / "purge.json").exists()
    assert from_pages(modelmill.home) == []
    again = modelmill.answer("forget", site.planted, "--purge", "--yes")
    assert not again["new"]


def test_a_pending_order_leaves_the_page_out_and_asks_nobody_again(
    modelmill: CommandLine, site: Site
) -> None:
    site.asked.clear()
    modelmill.answer("forget", site.planted)
    ran = run_until(modelmill, site, "select")
    assert states(ran)["scrape"] == "Completed"
    assert site.asked == []
    told = modelmill.answer("trace", site.planted)
    reasons = [row["reason"] for crawl in told["crawls"] for row in crawl["fetched"]]
    assert sorted(reasons) == ["", "on the blocklist"]
    (corpus,) = (step["artifact"] for step in ran["steps"] if step["stage"] == "select")
    assert not [n for n in holding(modelmill.home) if n.startswith(f"store/{corpus}")]
    assert set(states(run_until(modelmill, site, "select")).values()) == {"Cached"}
    # What was made without it is kept by a purge, and found again by the next run.
    modelmill.answer("forget", site.planted, "--purge", "--yes")
    assert holding(modelmill.home) == set()
    assert set(states(run_until(modelmill, site, "select")).values()) == {"Cached"}
    assert site.asked == []


def test_an_order_for_another_page_costs_a_copy(
    modelmill: CommandLine, site: Site, crawled: tuple[CommandLine, dict[str, Any]]
) -> None:
    first = crawled[1]
    modelmill.answer("forget", "nobody.example")
    second = run_until(modelmill, site, "extract")
    assert states(second) == {"scrape": "Completed", "extract": "Cached"}
    assert first["steps"][0]["digest"] == second["steps"][0]["digest"]


def test_a_purge_that_is_killed_goes_on(modelmill: CommandLine, site: Site) -> None:
    dice = random.Random()
    command = modelmill.command("forget", site.planted, "--purge", "--yes")
    for _ in range(12):
        process = subprocess.Popen(
            command, cwd=modelmill.checkout, env=modelmill.environment(), stdout=-3, stderr=-3
        )
        while process.poll() is None and not (modelmill.home / "purge.json").exists():
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (modelmill.home / "purge.json").exists():
            break
    done = modelmill("forget", site.planted, "--purge", "--yes")
    assert done.returncode == 0, done.stderr
    assert holding(modelmill.home) == set()
    assert from_pages(modelmill.home) == []


def test_a_no_changes_nothing(modelmill: CommandLine, site: Site) -> None:
    done = subprocess.run(
        modelmill.command("forget", site.planted, "--purge"),
        cwd=modelmill.checkout,
        env=modelmill.environment(),
        input="n\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "nothing was deleted" in done.stderr
    assert holding(modelmill.home)
    assert not (modelmill.home / "blocklist.jsonl").exists()


SHORT = {
    "tokenizer.heldout_share": 0.25,
    "tokens.heldout_share": 0.25,
    "pretrain.steps": 40,
    "sft.steps": 12,
    "choice.questions": 20,
    "loss.most_tokens": 5000,
    "preferences.questions": 12,
    "preferences.heldout_questions": 4,
    "preferences.max_new": 8,
    "ppo.iterations": 1,
    "ppo.answers": 4,
    "ppo.max_new": 8,
    "compare.questions": 6,
    "compare.max_new": 8,
    "compare.kl_answers": 2,
}
"""The whole chain in half a minute."""
PLANTED = f"""# garden.heron

{SENTENCE}

## garden.heron.count_umbrellas

```python
def count_umbrellas(lake, hour=6)
```

Return the number of brass umbrellas that the heron saw at the given hour of the day.
"""


def notes(nano: CommandLine, folder: Path) -> list[str]:
    """The documentation that ``nano`` crawled, as Markdown files, with a page more."""
    folder.mkdir()
    corpora = [p.parent for p in nano.home.glob("store/sealed/*/ledger")]
    for shard in sorted(corpora[0].glob("*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            (folder / f"{row['title'].replace('/', '_')}.md").write_text(row["text"])
    (folder / "garden.heron.md").write_text(PLANTED)
    given = {**SHORT, "scrape.files": f"[{folder}/*.md]", "name": "garden"}
    return [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_chain_is_rebuilt_and_every_copy_purged(
    nano: tuple[CommandLine, dict[str, Any]], tmp_path: Path
) -> None:
    modelmill = CommandLine(tmp_path / "home")
    sets = notes(nano[0], tmp_path / "notes")
    modelmill.answer("run", "nano", *sets)  # under Prefect, whose database must hold no text either
    page = "file:///notes/garden.heron.md"
    reached = modelmill.answer("trace", page)["reached"][0]
    assert [version["aliases"] for version in reached["versions"]] == [["champion"]]
    assert reached["versions"][0]["bentos"]
    sources = modelmill.answer("trace", "garden")["sources"][0]
    assert sum(host["share"] for host in sources["hosts"]) == pytest.approx(1)

    # Alone, a purge would leave nothing to serve.
    refused = modelmill("forget", page, "--purge", "--yes")
    assert refused.returncode == 1
    assert "add --rebuild; --force deletes it all the same" in refused.stderr
    assert holding(modelmill.home)
    assert modelmill.answer("models")["models"][0]["forgotten"] == page

    # A gate that no such model passes: rebuilt, and not promoted.
    record = next((modelmill.home / "runs").glob("garden-*.json"))
    kept = record.read_text()
    gate = {"name": "impossible", "figure": "loss.bits_per_byte", "direction": "below"}
    content = json.loads(kept)
    content["repeat"]["config"]["promote"]["gates"] = [{**gate, "bound": 0.1, "on": "value"}]
    record.write_text(json.dumps(content))
    refused = modelmill("forget", page, "--rebuild", "--purge", "--yes")
    assert refused.returncode == 1
    assert "gate impossible" in refused.stderr
    assert "nothing was deleted" in refused.stderr
    assert holding(modelmill.home)
    record.write_text(kept)

    # Killed in the rebuild and in the purge, the same command goes on.
    command = modelmill.command("forget", page, "--rebuild", "--purge", "--yes")
    for wait in (15.0, None):
        process = subprocess.Popen(
            command, cwd=modelmill.checkout, env=modelmill.environment(), stdout=-3, stderr=-3
        )
        if wait is not None:
            time.sleep(wait)
        while (
            wait is None and process.poll() is None and not (modelmill.home / "purge.json").exists()
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = modelmill.answer("forget", page, "--rebuild", "--purge", "--yes")
    assert done["left"] == []
    assert holding(modelmill.home) == set()
    assert modelmill.answer("forget", SENTENCE, "--verify")["clean"]
    (version,) = [v for v in modelmill.answer("models")["models"] if "champion" in v["aliases"]]
    assert version["forgotten"] == ""
    again = states(modelmill.answer("run", "nano", "--plain", *sets))
    again.pop("dossier")  # drawn again: the version that it was compared with is gone
    assert set(again.values()) == {"Cached", "Unchanged"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_by_force_a_model_is_left_without_a_champion(
    nano: tuple[CommandLine, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(nano[0].home, tmp_path / "home", symlinks=True)
    modelmill = CommandLine(tmp_path / "home")
    domain = "docs.modelmill.local"
    done = modelmill.answer("forget", domain, "--purge", "--force", "--yes")
    assert done["purged"]["versions"] == 1
    assert modelmill.answer("models")["models"] == []
    assert not list((modelmill.home / "bentos" / "bentos" / "modelmill").iterdir())
    assert from_pages(modelmill.home) == []
    assert modelmill.answer("forget", domain, "--verify")["clean"]
