"""One engine of deletion for garbage collection and for orders to forget.

A plan (``components/core/store/gc_plan.py``) names what goes from one system, with reasons and
bytes. Planning differs: collection goes upstream from what must stay, an order downstream from the
page. Carrying out a plan, and looking whether all of it is gone, is the system's own, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from components.core.io.locks import hold_lock
from components.core.io.trash import list_trashes
from components.core.settings import Settings
from components.core.store.gc_plan import DeletionSystem, FileSystem, GcPlan
from components.publish import bento_folders
from components.publish.dataset import dataset_gc
from components.publish.dataset.delete_dataset import DatasetDeletion
from components.publish.dataset.push_dataset import datasets_lock
from components.publish.registry import registry_gc
from components.publish.registry.delete_versions import RegistryDeletion
from components.publish.registry.model_registry import registry_lock
from flows.runner.prefect import prefect_database

STORE, LOGS, WORKSPACE = "store", "logs", "workspace"
SYSTEMS: Mapping[str, DeletionSystem] = {
    registry_gc.PLACE: RegistryDeletion(),
    dataset_gc.PLACE: DatasetDeletion(),
    bento_folders.PLACE: bento_folders.BentoDeletion(),
    prefect_database.HISTORY_PLACE: prefect_database.HistoryDeletion(),
}
"""Systems that hold more than files, by the place that their plans name."""


def delete_planned(settings: Settings, plans: Iterable[GcPlan]) -> None:
    """Carry out plans in their order; may be repeated after a kill. The trash waits to be emptied.

    Raises:
        DataError: a remote of the datasets could not be reached or refused.
    """
    for plan in plans:
        _find_system(plan).delete(settings, plan)


def find_not_deleted(settings: Settings, plans: Iterable[GcPlan]) -> list[str]:
    """Names of what the plans name and is still there."""
    return [name for plan in plans for name in _find_system(plan).find_left(settings, plan)]


def _find_system(plan: GcPlan) -> DeletionSystem:
    return SYSTEMS.get(plan.place) or FileSystem()


def empty_trashes(settings: Settings) -> None:
    """Delete what plans moved into the trash, and what a killed deletion left there."""
    for trash in list_trashes(settings.home):
        trash.empty()


@contextmanager
def hold_system_locks(settings: Settings) -> Iterator[None]:
    """Hold the locks of registration, promotion, push, build and smoke test."""
    with ExitStack() as stack:
        if settings.mlflow.is_dir():
            stack.enter_context(registry_lock(settings))
        if settings.datasets.is_dir():
            stack.enter_context(datasets_lock(settings.datasets))
        if settings.bentos.is_dir():
            stack.enter_context(hold_lock(settings.bentos / "package.lock"))
            stack.enter_context(hold_lock(settings.bentos / "smoke.lock"))
        yield
