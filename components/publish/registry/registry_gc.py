"""Takes versions out of the registry that nothing needs any more, with the files they hold.

Whatever the options: a version with an alias (champion, previous, challenger or a user's own), one
that still waits for its gates or an approval, and one that was rolled back stay. A finished MLflow
run stays too, as history: its figures are small; a training's goes with its stage, since its texts
may quote a page. What a killed registration left behind goes.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import DataError, MillError
from components.core.settings import Settings
from components.core.store.gc_plan import Keeping, Sweep
from components.core.store.gc_roots import Root
from components.core.store.trash import Trash, newest_change
from components.core.tracking import connect
from components.publish.promotion.alias_moves import PROMOTED_TAG, ROLLED_BACK_TAG
from components.publish.promotion.promote import GATES_TAG
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    TAG,
    Entry,
    entries,
)
from components.publish.registry.training_runs import files_of, without_stage

PLACE = "registry"
ALIASED = "champion, previous and challenger versions and what they came from"
NAMED = "versions with an alias of your own and what they came from"
WAITING = "versions that wait for their gates or an approval, and what they came from"
OLD_RUNS = "the last {runs} completed runs"
_ROLLED_BACK = "rolled back: its record keeps it from being promoted again"
_FOREIGN = "not made by Modelmill"
_LOGGED = re.compile(r"m-[0-9a-f]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Standing:
    """Why a version stays (empty: it goes), and whether what it came from stays too."""

    entry: Entry
    why: str
    rooted: bool = True

    def root(self) -> Root:
        """The digests that its tags name: bundle, checkpoint, dataset, reports."""
        named = (value for key, value in self.entry.tags.items() if key.startswith(TAG))
        digests = frozenset(value for value in named if _DIGEST.fullmatch(value))
        return Root(self.why, digests=digests if self.rooted else frozenset())


def standings(
    settings: Settings, named: Mapping[str, str], keeping: Keeping, now: float
) -> list[Standing]:
    """Every version, newest first.

    Args:
        named: ``models:/name/3`` -> why, of versions that something else keeps.
    """
    found = entries(settings)
    asked = _asked(settings)
    champions = {entry.model: entry.version for entry in found if CHAMPION in entry.aliases}
    return [
        Standing(entry, WAITING)
        if (entry.model, entry.version) in asked
        else _stand(
            settings, entry, champions.get(entry.model, 0), named, keeping.cutoff(now), keeping
        )
        for entry in found
    ]


def _asked(settings: Settings) -> set[tuple[str, int]]:
    """(model, version) of all that a person was asked about and has not answered."""
    found = set()
    for path in (settings.home / "approvals").glob("*.json"):
        try:
            pending = json.loads(path.read_bytes())
            found.add((str(pending["model"]), int(pending["version"])))
        except FileNotFoundError:
            continue  # answered just now
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: no record of what waits for approval: {error}") from error
    return found


def _stand(
    settings: Settings,
    entry: Entry,
    champion: int,
    named: Mapping[str, str],
    cutoff: float,
    keeping: Keeping,
) -> Standing:
    if {CHAMPION, PREVIOUS, CHALLENGER} & set(entry.aliases):
        return Standing(entry, ALIASED)
    if entry.aliases:
        return Standing(entry, NAMED)
    if _waits(entry, champion):
        return Standing(entry, WAITING)
    if BUNDLE_TAG not in entry.tags:
        return Standing(entry, _FOREIGN)
    if entry.uri in named:
        return Standing(entry, named[entry.uri])
    if newest_change(entry.files(settings)) >= cutoff:
        return Standing(entry, keeping.recent)
    if ROLLED_BACK_TAG in entry.tags:
        return Standing(entry, _ROLLED_BACK, rooted=False)
    return Standing(entry, "", rooted=False)


def _waits(entry: Entry, champion: int) -> bool:
    """Passed and not promoted yet; or not judged, and newer than the champion."""
    if {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys() or BUNDLE_TAG not in entry.tags:
        return False
    outcome = entry.tags.get(GATES_TAG)
    return outcome == "passed" or (outcome is None and entry.version > champion)


def sweep_registry(
    settings: Settings,
    standing: Collection[Standing],
    keeping: Keeping,
    now: float,
    removed: Collection[Path] = (),
) -> Sweep:
    """What goes of versions, logged models, runs and their files.

    Args:
        removed: folders of the store that go too, and records of trainings with them.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    sweep = Sweep(PLACE, settings.mlflow)
    kept_models: set[str] = set()
    for one in standing:
        entry, files = one.entry, one.entry.files(settings)
        if one.why:
            sweep.keep(one.why, [files])
            kept_models.add(entry.source.removeprefix("models:/"))
        else:
            outcome = entry.tags.get(GATES_TAG, "never judged")
            why = f"no alias and not awaited ({outcome}), of no kept run"
            held = [files.parent] if _LOGGED.fullmatch(files.parent.name) else []
            sweep.drop(f"{entry.model}/{entry.version}", why, held, kind="version")
            kept_models.add(entry.source.removeprefix("models:/"))  # it goes with its version
    with _database(settings) as connection:
        if connection is not None:
            _leftovers(connection, settings, sweep, kept_models, keeping.cutoff(now))
    named = {item.name for item in sweep.items}
    for run in without_stage(settings, removed):
        if run in named:
            continue
        why = "a training whose stage does not stay"
        sweep.drop(run, why, [files_of(settings, run)], kind="run")
    for folder in settings.mlflow.glob("tmp*/"):
        sweep.drop(f"mlflow/{folder.name}", "left by a promotion that was killed", [folder])
    return sweep


class _database:
    """The tables, read-only; None where there is no database."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.mlflow / "mlflow.db"
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> sqlite3.Connection | None:
        if self.path.exists():
            address = f"{self.path.as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._connection is not None:
            self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise MillError(f"{self.path}: cannot be read: {error}") from error


def _leftovers(
    connection: sqlite3.Connection,
    settings: Settings,
    sweep: Sweep,
    versioned: Collection[str],
    cutoff: float,
) -> None:
    """Logged models and runs of registrations that did not finish, and what was deleted by hand."""
    folder = settings.mlflow / "artifacts"
    known: set[str] = set()
    with closing(connection.execute(_LOGGED_MODELS, (BUNDLE_TAG,))) as rows:
        for model, stage, changed, ours in rows:
            known.add(model)
            deleted = stage == "deleted" and changed / 1000 < cutoff
            if model not in versioned and (deleted or (ours and stage != "deleted")):
                why = "deleted in MLflow" if deleted else "a registration that did not finish"
                sweep.drop(model, why, [folder / "models" / model], kind="logged model")
    with closing(connection.execute(_RUNS, (BUNDLE_TAG,))) as rows:
        for run, status, stage, changed, ours in rows:
            deleted = stage == "deleted" and (changed or 0) / 1000 < cutoff
            if deleted or (ours and stage != "deleted" and status != "FINISHED"):
                why = "deleted in MLflow" if deleted else "a registration that did not finish"
                sweep.drop(run, why, [folder / run], kind="run")
    for path in sorted((folder / "models").glob("m-*/")):
        if path.name not in known:
            sweep.drop(path.name, "files that no logged model names", [path])


_LOGGED_MODELS = (
    "SELECT model_id, lifecycle_stage, last_updated_timestamp_ms, EXISTS (SELECT 1 FROM "
    "logged_model_tags t WHERE t.model_id = m.model_id AND t.tag_key = ?1) FROM logged_models m"
)
_RUNS = (
    "SELECT run_uuid, status, lifecycle_stage, deleted_time, EXISTS (SELECT 1 FROM tags t "
    "WHERE t.run_uuid = r.run_uuid AND t.key = ?1) FROM runs r"
)


def retire(settings: Settings, sweep: Sweep) -> None:
    """Delete what ``sweep`` names; the registry's lock must be held.

    Rows go before files, so a version never stands there without them. Files are taken from this
    workspace's folder, not from the address in the database: a copied workspace still names the
    place it was copied from.
    """
    told = [item for item in sweep.items if item.kind != "files"]
    trash = Trash(settings.mlflow)
    if told:
        _retire_rows(settings, sweep)
    for item in sweep.items:
        for path in item.paths:
            trash.take(path)


def _retire_rows(settings: Settings, sweep: Sweep) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client = connect(settings)
    # What `mlflow gc` calls; the command itself would delete files by their recorded address.
    rows = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        settings.mlflow_uri, (settings.mlflow / "artifacts").as_uri()
    )
    sources = {f"{e.model}/{e.version}": e.source for e in entries(settings)}
    for item in sweep.items:
        if item.kind == "version":
            model, _, number = item.name.rpartition("/")
            client.delete_model_version(model, number)
            _forget_model(rows, sources[item.name].removeprefix("models:/"))
        elif item.kind == "logged model":
            _forget_model(rows, item.name)
        elif item.kind == "run":
            rows._hard_delete_run(item.name)  # type: ignore[no-untyped-call]
    rows.engine.dispose()


def _forget_model(rows: object, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        rows._hard_delete_logged_model(model)  # type: ignore[attr-defined]
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
