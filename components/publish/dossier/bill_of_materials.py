"""CycloneDX bill of materials (ECMA-424, JSON) of the software that a version was made with."""

from __future__ import annotations

import importlib.metadata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from components.core.errors import DataError

LOCK_FILE = "requirements.lock"
_LONGEST_LICENCE = 60


@dataclass(frozen=True)
class LockedPackage:
    """One package of the lock."""

    name: str
    version: str
    licence: str
    """As its metadata says; empty where that says nothing, or it is not installed here."""


def read_packages(checkout: Path) -> list[LockedPackage]:
    """The lock's packages by name.

    Raises:
        DataError: the lock cannot be read.
    """
    try:
        lines = (checkout / LOCK_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{LOCK_FILE}: cannot be read: {error}") from error
    packages = []
    for line in lines:
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            pin = Requirement(text)
        except InvalidRequirement as error:
            raise DataError(f"{LOCK_FILE}: {text!r} is no requirement: {error}") from error
        version = next(
            (specifier.version for specifier in pin.specifier if specifier.operator == "=="), ""
        )
        packages.append(LockedPackage(pin.name, version, _licence(pin.name)))
    return sorted(packages, key=lambda package: package.name)


def _licence(name: str) -> str:
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    for field in ("License-Expression", "License"):
        licence = str(metadata[field] or "") if field in metadata else ""
        if licence and "\n" not in licence and len(licence) <= _LONGEST_LICENCE:
            return licence
    classes = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    return classes[0].rpartition(":: ")[2] if classes else ""


def render_bill(packages: list[LockedPackage], model: str, version: str, digest: str) -> str:
    """CycloneDX 1.6 JSON: the model as the component, the packages as what it was made with.

    Equal packages and ``digest`` give equal bytes: no clock in it.

    Args:
        packages: packages of the lock.
        model: the registered model's name.
        version: number of the model's version.
        digest: digest of the bundle that the version holds; the serial number is made of it.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    made = Component(
        name=model,
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest))
    bom.metadata.timestamp = datetime.fromtimestamp(0, UTC)
    bom.metadata.component = made
    for package in packages:
        url = PackageURL("pypi", None, package.name, package.version)
        licences = [DisjunctiveLicense(name=package.licence)] if package.licence else []
        bom.components.add(
            Component(
                name=package.name,
                version=package.version,
                purl=url,
                bom_ref=str(url),
                licenses=licences,
            )
        )
    bom.register_dependency(made, bom.components)
    return str(JsonV1Dot6(bom).output_as_string(indent=1))
