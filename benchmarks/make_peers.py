"""Environment of the benchmarks' peers, in ``.peers`` of the checkout (``make peers``).

The extra ``bench`` goes into a virtual environment that also sees this one's packages, so what both
need is there once, at the lock's version. llama.cpp's native build comes by npm, where npm is.
"""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peer_programs import PEERS_NODE, PEERS_PYTHON, ROOT
from components.core.errors import MillError, error_line
from components.core.process.child_programs import run_program

_LLAMA_VERSION = "3.21.1"
_LLAMA_BUILDS = {("Linux", "x86_64"): "linux-x64", ("Linux", "aarch64"): "linux-arm64"}
"""(system, processor) -> the build of llama.cpp that is installed without compiling."""


def make_python_environment(folder: Path, packages: Sequence[str], lock: Path) -> None:
    """Make or complete the virtual environment of the peers.

    Args:
        folder: of the environment.
        packages: requirements of the peers.
        lock: versions of whatever this environment has too.

    Raises:
        MillError: they cannot be installed.
    """
    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A path file is read after the folder it lies in: the peers' own packages come first.
    shared = folder / "lib" / version / "site-packages" / "modelmill-shared.pth"
    shared.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _install([*pip, "--constraint", str(lock), *packages])


def make_node_environment(folder: Path) -> str:
    """Install llama.cpp's native build by npm; returns a line for the user."""
    npm, build = shutil.which("npm"), _LLAMA_BUILDS.get((platform.system(), platform.machine()))
    if npm is None:
        return "npm is not on the path: llama.cpp's native build is left out of `bench serve`"
    if build is None:
        return f"node-llama-cpp has no build for {platform.machine()}: it is left out"
    # Optional packages are builds for GPUs, 700 MB; no script of a package is run.
    names = [f"node-llama-cpp@{_LLAMA_VERSION}", f"@node-llama-cpp/{build}@{_LLAMA_VERSION}"]
    options = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
    _install([npm, "install", "--prefix", str(folder), *options, *names])
    return f"node-llama-cpp {_LLAMA_VERSION} in {folder}"


def _install(command: Sequence[str]) -> None:
    try:
        ended = run_program(command)
    except OSError as error:
        raise MillError(f"{command[0]}: {error_line(error)}") from error
    if ended.exit_code != 0:
        raise MillError(f"the peers could not be installed: {ended.last_lines()}")


def read_bench_requirements(project: Path) -> list[str]:
    """Requirements of the extra ``bench`` in a project's ``pyproject.toml``."""
    content = tomllib.loads(project.read_text(encoding="utf-8"))
    return [str(line) for line in content["project"]["optional-dependencies"]["bench"]]


def main() -> int:
    """Make both environments, with a line for each."""
    try:
        packages = read_bench_requirements(ROOT / "pyproject.toml")
        make_python_environment(PEERS_PYTHON.parents[1], packages, ROOT / "requirements.lock")
        sys.stdout.write(f"{len(packages)} packages of peers in {PEERS_PYTHON.parents[1]}\n")
        PEERS_NODE.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(make_node_environment(PEERS_NODE) + "\n")
    except MillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
