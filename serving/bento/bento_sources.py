"""Source files of the checkout that a Bento's service needs, and the pins of their packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.core.store.code_digest import PACKAGES, distribution_owners, normalise_source

SERVICE = "serving.bento.service"
ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
LOCK_FILE = "requirements.lock"


@dataclass(frozen=True)
class BentoSources:
    """Files, relative to the checkout, and the third-party packages they import."""

    files: tuple[Path, ...]
    packages: tuple[str, ...]

    def digest(self) -> str:
        """sha256 of what the code does: comments and docstrings do not count."""
        total = hashlib.sha256()
        for file in self.files:
            source = normalise_source((ROOT / file).read_text(encoding="utf-8"))
            total.update(f"{file.as_posix()}\0{source}\0".encode())
        return total.hexdigest()


def collect_service_sources() -> BentoSources:
    """The service's module and everything upstream of it."""
    graph = grimp.build_graph(
        *PACKAGES,
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    modules = {SERVICE, *graph.find_upstream_modules(SERVICE)}
    own = {module for module in modules if module.partition(".")[0] in PACKAGES}
    own |= {parent for module in own for parent in _packages_of(module)}
    external = modules - own - set(sys.stdlib_module_names)
    return BentoSources(tuple(sorted(map(_file, own))), tuple(sorted(external)))


def list_outdated_sources(packed: Path) -> list[str]:
    """Packed source files that do other things than the checkout's, or are no longer there.

    New code is always used by code that was there before, so new files need no look of their own.

    Args:
        packed: folder of a Bento's sources.
    """
    files = (
        file.relative_to(packed) for name in PACKAGES for file in packed.glob(f"{name}/**/*.py")
    )
    return sorted(file.as_posix() for file in files if not _is_current(packed / file, ROOT / file))


def _is_current(packed: Path, own: Path) -> bool:
    """The files do the same: comments and docstrings do not count."""
    if not own.is_file():
        return False
    sources = packed.read_bytes(), own.read_bytes()
    if sources[0] == sources[1]:
        return True
    try:
        former, present = (normalise_source(source.decode()) for source in sources)
    except (SyntaxError, ValueError):  # code of another Python, or a damaged file
        return False
    return former == present


def _packages_of(module: str) -> Iterable[str]:
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def _file(module: str) -> Path:
    stem = Path(*module.split("."))
    package = stem / "__init__.py"
    return package if (ROOT / package).is_file() else stem.with_suffix(".py")


def pin_packages(packages: Iterable[str]) -> list[str]:
    """``name==version`` of these import packages' distributions and all that they require.

    The version is the lock's; that of this environment where the lock does not name one.
    """
    locked = read_lock_pins()
    known = distribution_owners()
    waiting = [owner for package in packages for owner in known.get(package, [])[:1]]
    pins: dict[str, str] = {}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in pins:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other platforms alone
        pins[name] = locked.get(name, distribution.version)
        waiting.extend(_requires(distribution))
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _requires(distribution: importlib.metadata.Distribution) -> Iterable[str]:
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def read_lock_pins() -> dict[str, str]:
    """name -> version, from the checkout's lock."""
    path = ROOT / LOCK_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pins = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", line) for line in lines)
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}
