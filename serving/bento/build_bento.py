"""Build of a Bento: the service's modules, one ONNX form, the tokenizer, exact pins.

A Bento's version is a digest of all that goes into it, so an unchanged one is found again by
looking for a folder. It is built in a clean folder, in a process of its own, and moved into the
store whole. The tag ``latest`` is not touched: it moves with the champion.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, MillError
from components.core.io.atomic_write import publish_path
from components.core.io.locks import hold_lock
from components.core.io.trash import delete_path
from components.core.process.child_programs import ChildTimeout, run_program
from components.core.settings import Settings
from components.core.store.artifact import Bento, Bundle, ModelVersion, digest_value
from components.publish.bento_folders import (
    BENTO_NAME,
    bentos_folder,
    damaged_files,
    write_file_list,
)
from components.publish.registry.model_registry import parse_version
from components.text.chat.tokenizer_files import (
    TOKENIZER_FILE,
    copy_tokenizer_files,
    tokenizer_digest,
)
from serving.api.limits import EndpointLimits
from serving.bento.bento_sources import ROOT, BentoSources, collect_service_sources, pin_packages
from serving.engine.served_folder import BUNDLE_FOLDER, ENDPOINT_FILE, Endpoint
from serving.engine_program import ONNX_FORMS

_DIGITS = 12
"""Hexadecimal digits of the digest that name a Bento's version: 48 bits."""


class PackageConfig(StageConfig):
    """Form and limits of a Bento."""

    form: Literal["auto", "onnx-int8", "onnx"] = Field(
        default="auto", description="the form to serve; auto takes INT8 where it passed parity"
    )
    limits: EndpointLimits = Field(default=EndpointLimits(), description="bounds of the endpoint")
    build_seconds: float = Field(
        default=120.0, gt=0, description="time limit of building, in seconds"
    )


@dataclass(frozen=True)
class _Contents:
    """Everything that makes one Bento what it is."""

    endpoint: Endpoint
    bundle: Path
    sources: BentoSources
    requirements: tuple[str, ...]
    digest: str

    @property
    def version(self) -> str:
        return self.digest[:_DIGITS]


def dry_run_package(
    config: PackageConfig, version: ModelVersion, bundle: Bundle, workspace: Workspace
) -> Change[Bento]:
    """Look for a whole Bento of this bundle and this code.

    Args:
        config: form and limits.
        version: a registered version.
        bundle: would be packed.
        workspace: holds the Bentos.
    """
    return _find_bento(_contents(config, version, bundle, workspace), version, bundle, workspace)


@action(dry_run=dry_run_package)
def package(
    config: PackageConfig, version: ModelVersion, bundle: Bundle, workspace: Workspace
) -> Change[Bento]:
    """Build the Bento of a bundle, unless there is one that is whole.

    Args:
        config: form and limits.
        version: a registered version.
        bundle: is packed.
        workspace: holds the Bentos.

    Raises:
        ConfigError: the bundle does not hold the form asked for.
        MillError: building failed; the message ends with what was said last.
    """
    contents = _contents(config, version, bundle, workspace)
    settings = workspace.settings
    if not (packed := _find_bento(contents, version, bundle, workspace)).changed:
        return packed
    with hold_lock(settings.bentos / "package.lock"):
        if not (packed := _find_bento(contents, version, bundle, workspace)).changed:
            return packed
        target = bentos_folder(settings) / contents.version
        _build(contents, target, settings, config.build_seconds)
    return packed


def _find_bento(
    contents: _Contents, version: ModelVersion, bundle: Bundle, workspace: Workspace
) -> Change[Bento]:
    """The Bento of these contents; ``changed`` where there is none that is whole."""
    target = bentos_folder(workspace.settings) / contents.version
    bento = Bento(
        name=f"../{target.relative_to(workspace.settings.home).as_posix()}",
        digest=contents.digest,
        lineage=workspace.action_lineage(package, {"version": version, "bundle": bundle}),
    )
    return Change(bento, not _is_whole(target), f"{BENTO_NAME}:{contents.version}")


def _is_whole(target: Path) -> bool:
    return target.is_dir() and not damaged_files(target)


def _contents(
    config: PackageConfig, version: ModelVersion, bundle: Bundle, workspace: Workspace
) -> _Contents:
    model, number = parse_version(version)
    folder = workspace.artifact_folder(bundle)
    sources = collect_service_sources()
    requirements = tuple(pin_packages(sources.packages))
    endpoint = Endpoint(
        model=model,
        version=str(number),
        bundle=bundle.digest,
        tokenizer=_tokenizer_of(folder),
        form=_choose_form(config.form, folder),
        engine=digest_value({"code": sources.digest(), "requirements": requirements}),
        created=int(time.time()),
        limits=config.limits,
    )
    digest = digest_value({"endpoint": endpoint.model_dump(mode="json", exclude={"created"})})
    return _Contents(endpoint, folder, sources, requirements, digest)


def _tokenizer_of(bundle: Path) -> str:
    """Digest of the tokenizer that the bundled model was trained with; empty in old bundles.

    Raises:
        DataError: a file is missing or damaged, or the bundle ships another tokenizer.
    """
    try:
        digest = str(json.loads((bundle / "bundle.json").read_bytes()).get("tokenizer", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{bundle.name}: bundle.json cannot be read: {error}") from error
    shipped = tokenizer_digest(bundle)
    if digest and shipped != digest:
        raise DataError(
            f"{bundle.name}: {TOKENIZER_FILE} is of tokenizer {shipped[:12]}, its model of "
            f"{digest[:12]}: bundle it again"
        )
    return digest


def _choose_form(form: str, bundle: Path) -> str:
    there = [name for name in ONNX_FORMS if (bundle / name / "model.onnx").is_file()]
    if form == "auto" and there:
        return there[0]
    if form not in there:
        held = ", ".join(there) or "none that can be served"
        raise ConfigError(f"package.form {form}: the bundle holds {held}")
    return form


def _build(contents: _Contents, target: Path, settings: Settings, seconds: float) -> None:
    """Build into ``partial``, where the leavings of a killed try are cleared, then move."""
    partial = settings.bentos / "partial"
    delete_path(partial)
    home = partial / "home"
    home.mkdir(parents=True)
    # BentoML builds from no folder with a dot in front of any part, and the workspace has one.
    with tempfile.TemporaryDirectory(prefix="modelmill-bento-") as clean:
        context = Path(clean)
        _write_context(contents, context)
        _run_build(contents, context, home, seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # a damaged one; a server that was started from it has all in memory
        publish_path(target, partial / "damaged")
    publish_path(home / "bentos" / BENTO_NAME / contents.version, target)
    delete_path(partial)


def _run_build(contents: _Contents, context: Path, home: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "bentoml", "build", str(context), "--version"]
    environment = {"BENTOML_HOME": str(home), "PYTHONPATH": str(context)}
    command += [contents.version, "--output", "tag"]
    try:
        build = run_program(command, seconds=seconds, environment=environment, folder=context)
    except ChildTimeout as error:
        raise MillError(f"building the Bento {error}") from None
    built = home / "bentos" / BENTO_NAME / contents.version
    if build.exit_code != 0 or not (built / "bento.yaml").is_file():
        raise MillError(f"the Bento could not be built: {build.last_lines()}")


def _write_context(contents: _Contents, context: Path) -> None:
    """Write only what is needed: modules, bundle, endpoint.json, files.json, bentofile.yaml."""
    for file in contents.sources.files:
        _copy(ROOT / file, context / file)
    bundle = context / BUNDLE_FOLDER
    form = contents.endpoint.form
    for path in sorted((contents.bundle / form).glob("model.onnx*")):
        _copy(path, bundle / form / path.name)
    for name in (TOKENIZER_FILE, "bundle.json"):
        if not (contents.bundle / name).is_file():
            raise DataError(f"{contents.bundle.name}: the bundle holds no {name}")
    copy_tokenizer_files(contents.bundle, bundle)
    _copy(contents.bundle / "bundle.json", bundle / "bundle.json")
    (context / ENDPOINT_FILE).write_text(contents.endpoint.model_dump_json(indent=1))
    write_file_list(context)
    (context / "bentofile.yaml").write_text(yaml.safe_dump(_bentofile(contents)))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _bentofile(contents: _Contents) -> dict[str, object]:
    endpoint = contents.endpoint
    return {
        "service": "serving.bento.service:OpenAIService",
        "name": BENTO_NAME,
        "description": f"{endpoint.model} version {endpoint.version}, form {endpoint.form}",
        "labels": {"model": endpoint.model, "version": endpoint.version},
        "include": ["**/*"],
        "python": {"packages": list(contents.requirements), "lock_packages": False},
        "docker": {"python_version": "3.11"},
    }
