"""Packs a bundle as a Bento: the service's modules, one ONNX form, the tokenizer, exact pins.

A Bento's version is a digest of all that goes into it, so an unchanged one is found again by
looking for a folder. It is built in a clean folder, in a process of its own, and moved into the
store whole. The tag ``latest`` is not touched: it moves with the champion.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, MillError
from components.core.io.locks import hold_lock
from components.core.settings import Settings, child_environment
from components.core.store.artifact import Bento, Bundle, ModelVersion, digest_value
from components.publish.bento_folders import NAME, bentos_folder, damaged_files, write_file_list
from components.publish.registry.model_registry import parse
from components.text.chat.chat_template import TOKENIZER_FILE, tokenizer_digest
from serving.api.limits import Limits
from serving.bento.bento_sources import ROOT, Sources, pinned, service_sources
from serving.engine.served_folder import BUNDLE_FOLDER, ENDPOINT_FILE, Endpoint

FORMS = ("onnx-int8", "onnx")
"""What the engine can serve, the preferred one first."""
_DIGITS = 12
_LOG_LINES = 5


class PackageConfig(StageConfig):
    """What goes into the Bento."""

    form: Literal["auto", "onnx-int8", "onnx"] = Field(
        default="auto", description="the form to serve; auto takes INT8 where it passed parity"
    )
    limits: Limits = Field(default=Limits(), description="bounds of the endpoint")
    build_seconds: float = Field(default=120.0, gt=0, description="how long building may take")


@dataclass(frozen=True)
class _Contents:
    """Everything that makes one Bento what it is."""

    endpoint: Endpoint
    bundle: Path
    sources: Sources
    requirements: tuple[str, ...]
    digest: str

    @property
    def version(self) -> str:
        return self.digest[:_DIGITS]


def package(
    config: PackageConfig,
    version: ModelVersion,
    bundle: Bundle,
    workspace: Workspace,
    only_look: bool = False,
) -> Change[Bento]:
    """The Bento of one bundle, built where there is none that is whole.

    ``only_look`` builds nothing.

    Raises:
        ConfigError: the bundle does not hold the form asked for.
        MillError: building failed; the message ends with what was said last.
    """
    contents = _contents(config, version, bundle, workspace)
    settings = workspace.settings
    target = bentos_folder(settings) / contents.version
    note = f"{NAME}:{contents.version}"
    made = Bento(
        name=f"../{target.relative_to(settings.home).as_posix()}",
        digest=contents.digest,
        lineage=workspace.lineage(
            "serving.bento.build_bento.package", {"version": version, "bundle": bundle}
        ),
    )
    if _is_whole(target) or only_look:
        return Change(made, not _is_whole(target), note)
    with hold_lock(settings.bentos / "package.lock"):
        if _is_whole(target):
            return Change(made, False, note)
        _build(contents, target, settings, config.build_seconds)
    return Change(made, True, note)


def _is_whole(target: Path) -> bool:
    return target.is_dir() and not damaged_files(target)


def _contents(
    config: PackageConfig, version: ModelVersion, bundle: Bundle, workspace: Workspace
) -> _Contents:
    model, number = parse(version)
    folder = workspace.path(bundle)
    sources = service_sources()
    requirements = tuple(pinned(sources.packages))
    endpoint = Endpoint(
        model=model,
        version=str(number),
        bundle=bundle.digest,
        tokenizer=_tokenizer_of(folder),
        form=_choose(config.form, folder),
        created=int(time.time()),
        limits=config.limits,
    )
    digest = digest_value(
        {
            "endpoint": endpoint.model_dump(mode="json", exclude={"created"}),
            "code": sources.digest(),
            "requirements": requirements,
        }
    )
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


def _choose(form: str, bundle: Path) -> str:
    there = [name for name in FORMS if (bundle / name / "model.onnx").is_file()]
    if form == "auto" and there:
        return there[0]
    if form not in there:
        held = ", ".join(there) or "none that can be served"
        raise ConfigError(f"package.form {form}: the bundle holds {held}")
    return form


def _build(contents: _Contents, target: Path, settings: Settings, seconds: float) -> None:
    """Build into ``partial``, where a killed try's leavings are cleared, then move."""
    partial = settings.bentos / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    home = partial / "home"
    home.mkdir(parents=True)
    # BentoML builds from no folder with a dot in front of any part, and the workspace has one.
    with tempfile.TemporaryDirectory(prefix="modelmill-bento-") as clean:
        context = Path(clean)
        _lay_out(contents, context)
        _run_build(contents, context, home, seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # a damaged one; a server that was started from it has all in memory
        target.rename(partial / "damaged")
    (home / "bentos" / NAME / contents.version).rename(target)
    shutil.rmtree(partial)


def _run_build(contents: _Contents, context: Path, home: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "bentoml", "build", str(context), "--version"]
    environment = child_environment({"BENTOML_HOME": str(home), "PYTHONPATH": str(context)})
    try:
        done = subprocess.run(
            [*command, contents.version, "--output", "tag"],
            cwd=context,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise MillError(f"building the Bento took more than {seconds:g} s") from None
    built = home / "bentos" / NAME / contents.version
    if done.returncode != 0 or not (built / "bento.yaml").is_file():
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_LOG_LINES:])
        raise MillError(f"the Bento could not be built: {said}")


def _lay_out(contents: _Contents, context: Path) -> None:
    """Only what is needed: modules, bundle, endpoint.json, files.json, bentofile.yaml."""
    for file in contents.sources.files:
        _copy(ROOT / file, context / file)
    bundle = context / BUNDLE_FOLDER
    form = contents.endpoint.form
    for path in sorted((contents.bundle / form).glob("model.onnx*")):
        _copy(path, bundle / form / path.name)
    for name in ("tokenizer.json", "bundle.json"):
        if not (contents.bundle / name).is_file():
            raise DataError(f"{contents.bundle.name}: the bundle holds no {name}")
        _copy(contents.bundle / name, bundle / name)
    (context / ENDPOINT_FILE).write_text(contents.endpoint.model_dump_json(indent=1))
    write_file_list(context)
    (context / "bentofile.yaml").write_text(yaml.safe_dump(_bentofile(contents)))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _bentofile(contents: _Contents) -> dict[str, object]:
    endpoint = contents.endpoint
    return {
        "service": "serving.bento.service:Model",
        "name": NAME,
        "description": f"{endpoint.model} version {endpoint.version}, form {endpoint.form}",
        "labels": {"model": endpoint.model, "version": endpoint.version},
        "include": ["**/*"],
        "python": {"packages": list(contents.requirements), "lock_packages": False},
        "docker": {"python_version": "3.11"},
    }
