"""A workspace with a real MLflow database, made once, and small sealed artifacts in its store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.action import Workspace
from components.core.settings import Settings
from components.core.stats.figures import Figure, write_report
from components.core.stats.report_items import ReportItems, write_items
from components.core.store.artifact import Bento, Bundle, Checkpoint, Dataset, ModelVersion, Report
from components.core.store.workdir import Workdir
from components.publish.bento_folders import bentos_folder
from components.publish.registry.model_registry import BUNDLE_TAG, list_versions
from components.publish.registry.register import RegisterConfig, register
from models.shape import DecoderShape
from serving.bento.build_bento import package

PARITY = {"passes": True, "kl_mean": 1e-9, "top1_agreement": 1.0, "positions": 512}


def list_aliases(settings: Settings, name: str) -> dict[str, str]:
    """alias -> version of one model."""
    return {
        alias: str(entry.version)
        for entry in list_versions(settings, name)
        for alias in entry.aliases
    }


class Bench:
    """Makes small artifacts in one workspace."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace(Settings(home=home, reference_data=home))

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    def _work(self, component: str) -> Workdir:
        return Workdir.temporary(self.settings.store, component)

    def bundle(self, content: str, parity: Mapping[str, object] = PARITY) -> Bundle:
        work = self._work("components.export.bundle.bundle")
        (work.folder / "onnx").mkdir()
        (work.folder / "onnx" / "model.onnx").write_text(content)
        facts = {"forms": {"onnx": dict(parity)}, "context": 64}
        (work.folder / "bundle.json").write_text(json.dumps(facts))
        (work.folder / "tokenizer.json").write_text("{}")
        return work.seal(Bundle)

    def model(self) -> Checkpoint:
        work = self._work("components.align.ppo.ppo")
        shape = DecoderShape(vocabulary=64, width=16, layers=1)
        (work.folder / "model.json").write_text(json.dumps(asdict(shape)))
        steps = list(range(1200))
        curve = pa.table({"step": steps, "loss": [5.0 / (step + 1) for step in steps]})
        pq.write_table(curve, work.folder / "curve.parquet")
        return work.seal(Checkpoint)

    def dataset(self) -> Dataset:
        work = self._work("components.publish.dataset.push_dataset.push_dataset")
        (work.folder / "corpus.dvc").write_text("outs: []")
        return work.seal(Dataset, {"documents": 12.0})

    def bento(self, version: ModelVersion, build: str = "a") -> Bento:
        """A Bento as far as the registry looks into one: its folder and its ``endpoint.json``."""
        model, _, number = version.name.removeprefix("models:/").rpartition("/")
        found = {str(entry.version): entry for entry in list_versions(self.settings, model)}
        bundle = found[number].tags[BUNDLE_TAG] if number in found else ""
        folder = bentos_folder(self.settings) / f"{model}-{number}-{build}"
        (folder / "src").mkdir(parents=True, exist_ok=True)
        told = {"model": model, "version": number, "bundle": bundle}
        (folder / "src" / "endpoint.json").write_text(json.dumps(told))
        return Bento(
            name=f"../bentos/bentos/modelmill/{folder.name}",
            digest=folder.name,
            lineage=self.workspace.action_lineage(package, {"version": version}),
        )

    def registered(
        self, name: str, value: float, reach: float = 0.05
    ) -> tuple[ModelVersion, dict[str, Report]]:
        """A version of a model whose accuracy is ``value``, and its reports."""
        reports = {"choice": self.report("accuracy", value, value - reach, value + reach)}
        change = register(
            RegisterConfig(name=name),
            self.bundle(f"{name} {value}"),
            self.model(),
            self.dataset(),
            reports,
            self.workspace,
        )
        return change.artifact, reports

    def report(
        self, name: str, value: float, low: float, high: float, items: ReportItems | None = None
    ) -> Report:
        work = self._work("components.evaluate.four_choice.evaluate_choice")
        write_report(work.folder, [Figure(name=name, value=value, low=low, high=high, n=40)])
        if items is not None:
            write_items(work.folder, items)
        return work.seal(Report)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One database for the whole room: its first migration takes seconds."""
    return Bench(tmp_path_factory.mktemp("workspace"))
