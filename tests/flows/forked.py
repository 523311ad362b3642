"""The command line in forks of one process that has its imports, which take a command's seconds.

What runs is the real command with an environment, streams and an exit code of its own. A test of
the process itself (its imports, its end by a signal, Prefect's home from the start) starts one.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_PRELOADED = "tests.flows.preloaded"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([_PRELOADED])


def run_forked(
    arguments: Sequence[str],
    checkout: Path,
    environment: Mapping[str, str],
    timeout: float,
    program: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """``modelmill ARGUMENTS``, or the text of a program, as ``subprocess.run`` would run it."""
    with TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        given = (list(arguments), str(checkout), dict(environment), streams, program)
        process = _CONTEXT.Process(target=_run, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        output, errors = (Path(stream).read_text() for stream in streams)
        return subprocess.CompletedProcess(list(arguments), process.exitcode, output, errors)


def _run(
    arguments: list[str],
    checkout: str,
    environment: dict[str, str],
    streams: list[str],
    program: str | None,
) -> None:
    assert _PRELOADED in sys.modules  # the fork server is silent about one that it cannot import
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(checkout)
    os.environ.clear()
    os.environ.update(environment)
    import flows
    from flows.cli.main import main

    importlib.reload(flows)  # loads the settings anew, from this environment
    sys.argv = ["modelmill", *arguments]
    try:
        if program is None:
            main()
        else:
            exec(program, {"__name__": "__main__"})
    finally:  # as any interpreter ends; a process of multiprocessing leaves out the second
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
