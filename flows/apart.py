"""Stages that no run goes through: ``modelmill stage`` runs them on what a user gives."""

from __future__ import annotations

from components.core.artifact import Export, Lineage
from components.shrink.import_hf import ImportConfig, import_hf
from flows.history import UNKNOWN
from flows.step import Mill


def apart(mill: Mill) -> None:
    """Each of them once, its inputs stand-ins for the user's."""
    lineage = Lineage(component=UNKNOWN, code="", config="")
    folder = Export(name=UNKNOWN, digest=UNKNOWN, lineage=lineage)
    mill.step("import_hf", import_hf, ImportConfig(), folder=folder)
