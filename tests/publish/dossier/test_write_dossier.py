"""The dossier tells all of a version, asks for nothing from outside, and trusts no text in it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.clean.select import select
from components.core.errors import ConfigError
from components.core.stats.figures import write_report
from components.core.store.artifact import Bundle, Corpus, Dataset, Lineage, ModelVersion, Report
from components.core.store.lineage_graph import ArtifactNode
from components.core.store.workdir import Workdir
from components.publish.dossier import svg_charts
from components.publish.dossier.dossier_tables import shape_rows
from components.publish.dossier.lineage_tree import lineage_tree
from components.publish.dossier.model_card import _gates
from components.publish.dossier.write_dossier import DossierConfig, ensure_dossier
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.model_registry import list_versions
from components.publish.registry.register import RegisterConfig, register
from components.publish.registry.version_description import read_description
from flows.configs.text_run import TextSelectConfig
from models.shape import DecoderShape, ExpertsShape, RopeScaling, ShapeExtras
from tests.conftest import _document
from tests.publish.conftest import Bench

EVIL = "<script>alert('title')</script>"
SECRET = "jane.doe@corp.test"


class Links(HTMLParser):
    """Every tag, and every address that a browser would look at."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset") and value:
                self.addresses.append(value)


def test_a_shape_is_told_in_words_and_what_it_lacks_is_not() -> None:
    plain = DecoderShape(vocabulary=64, width=16, layers=1)
    rows = dict(shape_rows(json.loads(json.dumps(asdict(plain)))))
    assert rows["vocabulary"] == "64"
    assert rows["rope base"] == "10,000"
    assert rows["norm of queries and keys"] == "yes"
    assert not [name for name in rows if name.startswith(("extras", "rope,", "window", "experts"))]
    large = DecoderShape(
        window=64,
        full_layers=(1, 3),
        experts=ExpertsShape(count=4),
        rope=RopeScaling(kind="yarn", factor=4.0, original=512),
        mode="research",
        extras=ShapeExtras(logit_cap=30.0),
    )
    rows |= dict(shape_rows(json.loads(json.dumps(asdict(large)))))
    assert rows["layers that see everything"] == "1, 3"
    assert (rows["experts, count"], rows["experts, norm topk"]) == ("4", "yes")
    assert (rows["rope, kind"], rows["rope, factor"]) == ("yarn", "4")
    assert (rows["extras, logit cap"], rows["mode"]) == ("30", "research")
    assert not [value for value in rows.values() if re.search(r"None|True|False|[{}\[\]]", value)]


def test_a_dossier_and_its_description_print_no_python(bench: Bench) -> None:
    """Of a version whose bundle says little, and of one whose bundle says all there is."""
    for name, facts in (("bare", {}), ("shaped", {"shape": asdict(DecoderShape()), "context": 64})):
        work = Workdir.temporary(bench.settings.store, "components.export.bundle.bundle")
        (work.folder / "bundle.json").write_text(json.dumps({"forms": {}, **facts}))
        config = RegisterConfig(name=name)
        bundle = work.seal(Bundle)
        register(config, bundle, bench.model(), bench.dataset(), {}, bench.workspace)
        path, _ = ensure_dossier(bench.settings, f"{name}/1")
        text = " ".join(Texts(path.read_text()).texts)
        assert not re.search(r"\bNone\b|\bTrue\b|\bFalse\b|\{'|\[\]", text), name
        [entry] = list_versions(bench.settings, name)
        card = read_description(bench.settings, entry).text
        assert not re.search(r"None|True|False|\{'|\[\]|\b0 parameters|- tokens", card), name
        assert "0 parameters" not in text


class Texts(HTMLParser):
    """What a reader of a page sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def sealed_corpus(store: Path) -> Corpus:
    """Four pages, one of a blocked host."""
    import pyarrow as pa

    from components.core.store.document_rows import DOCUMENT_SCHEMA, shard_of
    from components.core.store.shards import shard_name, write_shard

    given = [
        {"text": "A page that stays. " * 9, "title": EVIL},
        {"text": f"Write to {SECRET} for more. " * 5, "title": "Contact"},
        {"text": "Another page. " * 30},
        {"text": "A page of a host to leave out. " * 9, "url": "https://ads.example/<b>x</b>"},
    ]
    rows = [_document(one, index) for index, one in enumerate(given)]
    work = Workdir.temporary(store)
    for number in range(2):
        mine = [row for row in rows if shard_of(row["id"], 2) == number]
        table = pa.Table.from_pylist(sorted(mine, key=lambda r: r["id"]), schema=DOCUMENT_SCHEMA)
        write_shard(work.folder / shard_name(number), table)
    raw = work.seal(Corpus)
    lineage = Lineage(
        component="components.clean.select.select",
        code="",
        config="",
        parents={"corpus": raw.digest},
    )
    chosen = Workdir(store, "selected", lineage)
    return select(TextSelectConfig(blocked_domains=("ads.example",)), raw, {}, chosen)


@pytest.fixture(scope="module")
def version(bench: Bench) -> ModelVersion:
    corpus = sealed_corpus(bench.settings.store)
    dataset = Dataset(name="corpus-x", digest=corpus.digest, lineage=corpus.lineage)
    made = register(
        RegisterConfig(name="told"),
        bench.bundle("weights of told"),
        bench.model(),
        dataset,
        {"choice": bench.report("accuracy", 0.61, 0.55, 0.67), "facts": _facts(bench)},
        bench.workspace,
    )
    _record(bench, corpus, "told-2", "2026-01-02", made.artifact.name, "renamed")
    _record(bench, corpus, "told-1", "2026-01-01", made.artifact.name, "int8")
    (bench.settings.runs / "half.json").write_text(f'{{"steps": "{made.artifact.name}')
    return made.artifact


def _facts(bench: Bench) -> Report:
    """A report of plain questions, those of training pages first."""
    asked = {"kind": "module", "reference": "`dumps` is in the module `json`."}
    examples = [
        {
            **asked,
            "group": "trained",
            "question": "Where is `dumps`?",
            "answer": EVIL,
            "exact": False,
        },
        {**asked, "group": "heldout", "question": "Where is `loads`?", "answer": "", "exact": True},
    ]
    work = Workdir.temporary(bench.settings.store, "components.evaluate.exact_facts.evaluate_facts")
    write_report(work.folder, [], examples=examples)
    return work.seal(Report)


def _record(bench: Bench, corpus: Corpus, run: str, started: str, uri: str, stage: str) -> None:
    """A run that called the corpus' stage ``stage`` and came to the version ``uri``."""
    steps = [
        {"stage": stage, "artifact": corpus.name, "digest": corpus.digest},
        {"stage": "registry", "artifact": uri, "digest": ""},
    ]
    bench.settings.runs.mkdir(exist_ok=True)
    record = {"run": run, "started": started, "steps": steps}
    (bench.settings.runs / f"{run}.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def page(bench: Bench, version: ModelVersion) -> str:
    path, changed = ensure_dossier(bench.settings, "told/1", DossierConfig(hour=3.6))
    assert changed
    return path.read_text()


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    found = Links(page)
    outside = [a for a in found.addresses if not a.startswith(("#", "data:application/json"))]
    assert outside == []
    assert not {"script", "iframe", "object", "img", "form"} & set(found.tags)
    assert "<b>x</b>" not in page
    assert "default-src 'none'" in page
    assert "url(" not in page


def test_text_of_pages_is_escaped_and_personal_data_replaced(page: str) -> None:
    assert EVIL not in page
    assert "&lt;script&gt;alert(" in page
    assert SECRET not in page


def test_it_tells_what_was_dropped_and_why(page: str) -> None:
    assert "blocked" in page
    assert "https://ads.example/&lt;b&gt;x&lt;/b&gt;" in page
    assert "documents kept" in page


def test_plain_questions_stand_with_their_answers_held_out_pages_first(page: str) -> None:
    heldout, trained = page.index("<code>loads</code>?"), page.index("<code>dumps</code>?")
    assert heldout < trained
    assert "(nothing)" in page[heldout:trained]
    assert "documentation: <code>dumps</code> is in the module <code>json</code>." in page
    assert ">not exact</p>" in page[trained:]


def test_figures_curves_and_lineage_are_there(page: str) -> None:
    assert "<h3>choice</h3>" in page
    assert ">accuracy</td>" in page
    assert "0.55 … 0.67" in page
    assert "ppo: loss" in page
    assert page.count("<polyline") == 2  # the curve, faintly, and its moving mean
    assert 'class="tree"' in page
    assert "EUR" in page


def test_stages_are_called_as_the_run_that_made_the_version_called_them(page: str) -> None:
    assert "told-1" in page
    assert ">int8</text>" in page
    assert ">select</text>" not in page
    assert "renamed" not in page
    assert ">ppo</text>" in page  # of no record: the function's name


def test_each_cell_of_a_narrow_table_names_itself(page: str) -> None:
    for table in re.findall(r'<table class="rows.*?</table>', page, re.DOTALL):
        for cell in re.findall(r"<td[^>]*>[^<]", table.replace("<tr><td", "<tr><th")):
            assert "data-l=" in cell
    assert page.count('class="rows') > 2


def test_the_bill_of_materials_is_cyclonedx_and_whole(page: str) -> None:
    link = next(a for a in Links(page).addresses if a.startswith("data:"))
    bill = json.loads(base64.b64decode(link.partition("base64,")[2]))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    torch = [c for c in bill["components"] if c["name"] == "torch"]
    assert torch[0]["purl"] == "pkg:pypi/torch@2.13.0"
    assert len(bill["components"]) > 200


def test_equal_facts_change_nothing(bench: Bench, page: str) -> None:
    config = DossierConfig(hour=3.6)
    assert ensure_dossier(bench.settings, "told", config)[1] is False
    assert ensure_dossier(bench.settings, "told@challenger", DossierConfig(limits="x"))[1] is True


def test_the_description_in_mlflow_leads_to_the_dossier(bench: Bench, page: str) -> None:
    client = connect_mlflow(bench.settings)
    version = client.get_model_version("told", "1")
    text = str(version.description)
    run = client.get_run(str(version.run_id))
    assert f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/" in text
    assert "Not judged by a gate." in text
    (output,) = run.outputs.model_outputs
    files = {one.path for one in client.list_logged_model_artifacts(output.model_id)}
    assert "dossier.html" in files
    logged = client.get_logged_model(output.model_id)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "told", "version": 1}]
    assert str(bench.settings.home) not in text


def test_what_a_person_wrote_as_description_stays(bench: Bench, version: ModelVersion) -> None:
    client = connect_mlflow(bench.settings)
    ensure_dossier(bench.settings, "told", DossierConfig(limits="one"))
    client.update_model_version("told", "1", "my own words")
    ensure_dossier(bench.settings, "told", DossierConfig(limits="two"))
    assert client.get_model_version("told", "1").description == "my own words"
    client.update_model_version("told", "1", "")
    assert ensure_dossier(bench.settings, "told", DossierConfig(limits="two"))[1] is True
    assert "Open the dossier" in str(client.get_model_version("told", "1").description)


def test_a_refusal_stands_on_the_card() -> None:
    gate = {"gate": "task", "figure": "choice.accuracy", "found": 0.2, "bound": 0.25}
    refused = {**gate, "direction": "above", "bound_is": "", "passes": False}
    text = _gates([refused, {**refused, "passes": True}])
    assert text.startswith("**Refused by 1 of 2 gates:**")
    assert "* task: choice.accuracy 0.2, must be above 0.25" in text


@pytest.mark.parametrize("model", ["told/9", "told@nobody", "nobody"])
def test_a_version_that_is_not_there_is_one_line(
    bench: Bench, version: ModelVersion, model: str
) -> None:
    with pytest.raises(ConfigError, match=f"{model}: no such version; there is .*told/1"):
        ensure_dossier(bench.settings, model)


def test_a_noisy_curve_is_drawn_within_its_frame() -> None:
    ys = [float("nan"), *(5.0 + (-1) ** x for x in range(999))]
    svg = svg_charts.draw_curves("loss", [svg_charts.CurveSeries("loss", range(1000), ys)])
    assert svg.count("<polyline") == 2
    points = [
        p.split(",") for part in svg.split('points="')[1:] for p in part.split('"')[0].split()
    ]
    assert all(
        0 <= float(x) <= svg_charts.WIDTH and 0 <= float(y) <= svg_charts.HEIGHT for x, y in points
    )
    assert svg_charts.draw_curves("none", [svg_charts.CurveSeries("loss", [], [])]) == ""


def test_two_steps_have_two_whole_ticks() -> None:
    svg = svg_charts.draw_curves("loss", [svg_charts.CurveSeries("loss", [0, 1], [3.25, 3.5])])
    assert re.findall(r'text-anchor="middle">([^<]*)<', svg) == ["0", "1"]
    assert svg.count("<circle") == 2
    ticks = re.findall(r'text-anchor="end">([^<]*)<', svg)
    assert ticks == ["3.3", "3.4", "3.5"]


def test_an_interval_stands_on_the_side_of_its_bound() -> None:
    svg = svg_charts.draw_gate(
        "accuracy", svg_charts.IntervalMark(0.6, 0.5, 0.7), 0.25, upwards=True
    )
    bound, dot = (float(re.findall(rf'{at}="([0-9.]+)"', svg)[0]) for at in ("x1", "cx"))
    shade = float(re.findall(r'<rect class="allowed" x="([0-9.]+)"', svg)[0])
    assert bound == shade < dot


def test_a_line_is_drawn_once_where_an_input_came_through_another() -> None:
    def node(name: str, **parents: str) -> ArtifactNode:
        return ArtifactNode(name, "x/1", f"a.{name}", f"d{name}", "", "", parents)

    chain = [node("a"), node("b", one="da"), node("c", one="da", two="db")]
    svg = lineage_tree(chain, lambda made: made.stage)
    assert svg.count('class="edge"') == 2
    assert "from one da, two db" in svg


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 9.1), (1e-9, 4e-9), (5.0, 5.0)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = svg_charts.axis_ticks(low, high)
    assert found
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)
