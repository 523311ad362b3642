"""Registration of a bundle as a version in MLflow, with figures, curves, dataset and lineage.

No pickle and no flavour: a logged model holds the bundle's files as they are. The version appears
last and whole, with its tags; what a killed try left behind is deleted by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, GateFailed
from components.core.io.trash import delete_path
from components.core.settings import Settings
from components.core.stats.figures import REPORT_FILE
from components.core.stats.report_items import ITEMS_FILE
from components.core.store.artifact import (
    MANIFEST_FILE,
    VOLATILE_FOLDER,
    Artifact,
    Bundle,
    Checkpoint,
    Dataset,
    ModelVersion,
    Report,
    digest_value,
    placeholder_artifact,
)
from components.core.store.workdir import stage_name
from components.core.tracking import Tracker
from components.publish.registry.base_records import base_tags
from components.publish.registry.mlflow_client import (
    MlflowTracker,
    connect_mlflow,
    ensure_experiment,
    flatten_mapping,
)
from components.publish.registry.mlflow_tables import logged_model_folder
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHALLENGER,
    REGISTERED_TAG,
    TAG,
    RegisteredVersion,
    list_versions,
    registry_lock,
)
from components.publish.registry.version_figures import BUNDLE_FILE, REPORTS, read_report_figures
from components.text.decoder_files import read_shape

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CURVE_FILE = "curve.parquet"
_LONGEST_DATASET_DIGEST = 36
"""Characters that MLflow takes for the digest of a dataset."""


class RegisterConfig(StageConfig):
    """Name of the registered model, and the detail of its curves."""

    name: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$",
        description="the registered model's name; the run's where it is empty",
    )
    curve_points: int = Field(
        default=500, ge=2, le=100_000, description="most points of a training curve that are logged"
    )


def dry_run_register(
    config: RegisterConfig,
    bundle: Bundle,
    model: Checkpoint,
    dataset: Dataset,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion]:
    """Look for a version that holds this bundle and carries everything.

    Args:
        config: names the registered model.
        bundle: would be registered.
        model: the checkpoint it was exported from.
        dataset: version of the corpus it was trained on.
        reports: report's role -> report.
        workspace: workspace whose registry is read.
    """
    entry = find_registered(workspace.settings, config.name, bundle)
    if entry is None or REGISTERED_TAG not in entry.tags:
        return Change(placeholder_artifact(ModelVersion), changed=True)
    inputs = {"bundle": bundle, "model": model, "dataset": dataset, **reports}
    return Change(version_artifact(workspace, entry, inputs), changed=False)


@action(dry_run=dry_run_register)
def register(
    config: RegisterConfig,
    bundle: Bundle,
    model: Checkpoint,
    dataset: Dataset,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion]:
    """Make a version of ``config.name`` that holds ``bundle``, aliased ``challenger`` when new.

    Where the bundle is registered already and a report came out differently, the version gets the
    new one: the next challenger is compared with it by what it holds.

    Args:
        config: names the registered model.
        bundle: is registered.
        model: the checkpoint it was exported from.
        dataset: version of the corpus it was trained on.
        reports: report's role -> report.
        workspace: workspace whose registry takes the version.

    Raises:
        DataError: the bundle has no readable ``bundle.json``.
        GateFailed: a form in the bundle did not pass its parity check.
    """
    settings = workspace.settings
    inputs = {"bundle": bundle, "model": model, "dataset": dataset, **reports}
    with registry_lock(settings):
        entry = find_registered(settings, config.name, bundle)
        if entry is not None and REGISTERED_TAG in entry.tags:
            renewed = _renew_reports(entry, reports, workspace)
            note = f"version {entry.version}"
            if renewed:
                note += f", new reports: {', '.join(renewed)}"
            return Change(version_artifact(workspace, entry, inputs), bool(renewed), note)
        client = connect_mlflow(settings)
        if entry is None:
            forms = read_bundle(workspace.artifact_folder(bundle))
            _clear_leftovers(client, settings, config.name, bundle)
            _create(client, config, inputs, forms, workspace)
            entry = find_registered(settings, config.name, bundle)
            assert entry is not None
        _link(client, entry)
        client.set_registered_model_alias(config.name, CHALLENGER, str(entry.version))
        client.set_model_version_tag(config.name, str(entry.version), REGISTERED_TAG, "true")
    return Change(version_artifact(workspace, entry, inputs), True, f"version {entry.version}")


def find_registered(settings: Settings, name: str, bundle: Artifact) -> RegisteredVersion | None:
    """The newest version that holds exactly this bundle; None where none does.

    Args:
        settings: workspace whose registry is read.
        name: name of the registered model.
        bundle: bundle whose version is looked up, by the digest.
    """
    same = (e for e in list_versions(settings, name) if e.tags.get(BUNDLE_TAG) == bundle.digest)
    return next(same, None)


def version_artifact(
    workspace: Workspace, entry: RegisteredVersion, inputs: Mapping[str, Artifact]
) -> ModelVersion:
    """The version as an artifact that later steps take.

    Args:
        workspace: notes the lineage.
        entry: version as the registry has it.
        inputs: role -> artifact, of everything registered with it.
    """
    content = {"uri": entry.uri, "bundle": entry.tags[BUNDLE_TAG]}
    return ModelVersion(
        name=entry.uri,
        digest=digest_value(content),
        lineage=workspace.action_lineage(register, inputs),
    )


def read_bundle(folder: Path) -> dict[str, dict[str, Any]]:
    """The bundle's forms that passed, each with its parity record.

    Raises:
        DataError: ``bundle.json`` cannot be read, or names a form that is not there.
        GateFailed: the bundle holds a form that failed parity.
    """
    try:
        forms = json.loads((folder / BUNDLE_FILE).read_bytes())["forms"]
        passing = {form: parity for form, parity in forms.items() if parity["passes"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder.name}: {BUNDLE_FILE} cannot be read: {error}") from error
    for form in forms:
        there = (folder / form).is_dir()
        if there and form not in passing:
            raise GateFailed(f"{form} differs from the torch model, so it is not registered")
        if form in passing and not there:
            raise DataError(f"{folder.name}: {BUNDLE_FILE} names {form}, which is not there")
    return passing


def _clear_leftovers(client: MlflowClient, settings: Settings, name: str, bundle: Artifact) -> None:
    """Delete runs and logged models of this bundle that no version came of."""
    place = ensure_experiment(client, settings, name)
    asked = f"tags.`{BUNDLE_TAG}` = '{bundle.digest}'"
    for half_made in client.search_logged_models([place], filter_string=asked):
        client.delete_logged_model(half_made.model_id)
        delete_path(logged_model_folder(settings, half_made.model_id))
    for run in client.search_runs([place], filter_string=asked):
        client.delete_run(run.info.run_id)


def _create(
    client: MlflowClient,
    config: RegisterConfig,
    inputs: Mapping[str, Artifact],
    forms: Mapping[str, Any],
    workspace: Workspace,
) -> None:
    """Run, logged model and, last, the version with all its tags in one transaction."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    bundle = inputs["bundle"]
    tags = {BUNDLE_TAG: bundle.digest}
    place = ensure_experiment(client, workspace.settings, config.name)
    run = client.create_run(place, tags=tags, run_name=f"{config.name}-{bundle.digest[:12]}")
    tracker = MlflowTracker(client, run.info.run_id)
    _describe(tracker, config, inputs, forms, workspace)
    _log_dataset(client, run.info.run_id, inputs["dataset"])
    logged = client.create_logged_model(
        place, name=config.name, source_run_id=run.info.run_id, tags=tags
    )
    _log_files(client, logged.model_id, forms, inputs, workspace)
    client.finalize_logged_model(logged.model_id, "READY")
    # MLflow shows the files of a run's outputs, so the dossier too, in the run's artifact view.
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.set_terminated(run.info.run_id)
    try:
        client.create_registered_model(config.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        config.name,
        source=f"models:/{logged.model_id}",
        run_id=run.info.run_id,
        model_id=logged.model_id,
        tags={
            **tags,
            **_version_tags(inputs, forms),
            **base_tags(workspace.settings, [inputs["model"].digest]),
        },
        await_creation_for=0,
    )


def _link(client: MlflowClient, entry: RegisteredVersion) -> None:
    """Let the logged model name its version, as MLflow's own ``register_model`` does."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    named = json.dumps([{"name": entry.model, "version": entry.version}])
    model_id = entry.source.removeprefix("models:/")
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: named})


def _version_tags(inputs: Mapping[str, Artifact], forms: Mapping[str, Any]) -> dict[str, str]:
    return {
        **{f"{TAG}{role}": artifact.digest for role, artifact in inputs.items()},
        TAG + "forms": ", ".join(sorted(forms)),
    }


def _log_files(
    client: MlflowClient,
    model_id: str,
    forms: Mapping[str, Any],
    inputs: Mapping[str, Artifact],
    workspace: Workspace,
) -> None:
    """The forms that the bundle names, its top files, and the reports beside them."""
    folder = workspace.artifact_folder(inputs["bundle"])
    for form in forms:
        # What differs between equal builds, a TensorRT engine, lies below volatile/.
        for place in (folder / form, folder / VOLATILE_FOLDER / form):
            if place.is_dir():
                client.log_model_artifacts(model_id, str(place), form)
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST_FILE):
        client.log_model_artifact(model_id, str(path))
    for role, artifact in inputs.items():
        if isinstance(artifact, Report):
            _log_report(client, model_id, role, workspace.artifact_folder(artifact))


def _log_report(client: MlflowClient, model_id: str, role: str, report: Path) -> None:
    """A report's figures and, where it kept them, the items they are made of."""
    for path in (report / ITEMS_FILE, report / REPORT_FILE):
        if path.is_file():
            client.log_model_artifact(model_id, str(path), f"{REPORTS}/{role}")


def _renew_reports(
    entry: RegisteredVersion, reports: Mapping[str, Report], workspace: Workspace
) -> list[str]:
    """Replace the reports that differ from those stored with a version; their roles."""
    differing = [
        role for role, report in reports.items() if entry.tags.get(TAG + role) != report.digest
    ]
    if not differing:
        return []
    client = connect_mlflow(workspace.settings)
    for role in differing:
        folder = entry.files_folder(workspace.settings) / REPORTS / role
        delete_path(folder)  # the old one is read-only, and may hold more
        model_id = entry.source.removeprefix("models:/")
        _log_report(client, model_id, role, workspace.artifact_folder(reports[role]))
        # Last: a try that was killed before it does this again.
        client.set_model_version_tag(
            entry.model, str(entry.version), TAG + role, reports[role].digest
        )
    return differing


def _describe(
    tracker: Tracker,
    config: RegisterConfig,
    inputs: Mapping[str, Artifact],
    forms: Mapping[str, Any],
    workspace: Workspace,
) -> None:
    """Every figure with its interval, parity, shape, the configs of all stages, the curve."""
    reports = {role: a for role, a in inputs.items() if isinstance(a, Report)}
    for name, figure in read_report_figures(workspace, reports).items():
        tracker.log_metric(name, figure.value)
        tracker.log_metric(f"{name}.low", figure.low)
        tracker.log_metric(f"{name}.high", figure.high)
    for name, value in flatten_mapping("parity", forms).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            tracker.log_metric(name, value)
    checkpoint = workspace.artifact_folder(inputs["model"])
    shape = asdict(read_shape(checkpoint))
    parameters = {
        **flatten_mapping("shape", shape),
        **collect_stage_configs(workspace.settings, inputs),
    }
    for name, value in sorted(parameters.items()):
        tracker.log_parameter(name, value)
    for name, step, value in _curve(checkpoint / CURVE_FILE, config.curve_points):
        tracker.log_metric(f"curve.{name}", value, step)
    tracker.flush()


def _curve(path: Path, points: int) -> Iterator[tuple[str, int, float]]:
    """(column, step, value) of a training curve, thinned evenly; the last step is kept."""
    if not path.is_file():
        return
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    stride = -(-table.num_rows // points) or 1
    for row in reversed(table.to_pylist()[::-1][::stride]):
        step = int(row.pop("step"))
        for name, value in row.items():
            if isinstance(value, int | float) and value == value:
                yield name, step, float(value)


def collect_stage_configs(settings: Settings, inputs: Mapping[str, Artifact]) -> dict[str, object]:
    """``stage.field`` -> value for every stage that the given artifacts came through."""
    manifests: dict[str, dict[str, Any]] = {}
    for path in (settings.store / "sealed").glob(f"*/{MANIFEST_FILE}"):
        manifest = json.loads(path.read_bytes())
        manifests[manifest["artifact"]["digest"]] = manifest
    configs: dict[str, object] = {}
    waiting, seen = [artifact.digest for artifact in inputs.values()], set[str]()
    while waiting:
        digest = waiting.pop()
        if digest in seen or digest not in manifests:
            continue
        seen.add(digest)
        manifest = manifests[digest]
        stage = stage_name(manifest, str(manifest.get("component", "")))
        configs.update(flatten_mapping(stage, manifest.get("config", {})))
        waiting.extend(manifest["artifact"]["lineage"]["parents"].values())
    return configs


def _log_dataset(client: MlflowClient, run_id: str, dataset: Artifact) -> None:
    from mlflow.entities import Dataset as LoggedDataset
    from mlflow.entities import DatasetInput, InputTag

    entity = LoggedDataset(
        name="corpus",
        digest=dataset.digest[:_LONGEST_DATASET_DIGEST],
        source_type="dvc",
        source=json.dumps({"name": dataset.name, "digest": dataset.digest}, sort_keys=True),
        profile=json.dumps(dataset.stats, sort_keys=True),
    )
    context = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, [DatasetInput(entity, context)])
