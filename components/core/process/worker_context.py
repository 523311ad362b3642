"""Start method of worker processes: fresh interpreters that never run the caller's program again.

``multiprocessing`` runs the main module of its parent once more in every spawned process, as
``__mp_main__``. A script that calls Modelmill without an ``if __name__ == "__main__"`` would begin
its run again in each worker; so would a notebook's kernel that was started from a file. Functions
of our workers lie in importable modules, so nothing of the main module is needed.
"""

from __future__ import annotations

import io
import os
from multiprocessing import (
    context,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)

_MAIN_FIELDS = ("init_main_from_name", "init_main_from_path")
"""Fields of ``spawn.get_preparation_data`` by which a child would run the main module."""


class _WorkerPopen(popen_spawn_posix.Popen):
    """Launch of a spawned process, as in CPython 3.11 and 3.12 but for the main module."""

    _fds: list[int]

    def _launch(self, process_obj: process.BaseProcess) -> None:
        tracker = resource_tracker.getfd()
        assert tracker is not None
        prepared = spawn.get_preparation_data(process_obj.name)
        kept = {key: value for key, value in prepared.items() if key not in _MAIN_FIELDS}
        pickled = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(kept, pickled)
            reduction.dump(process_obj, pickled)  # adds the descriptors that it needs
        finally:
            context.set_spawning_popen(None)
        sentinel, child_writes = os.pipe()
        child_reads, writer = os.pipe()
        self.sentinel = sentinel
        self.finalizer = util.Finalize(self, _close_all, ((sentinel, writer),))
        try:
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_reads)
            passed = [*self._fds, tracker, child_reads, child_writes]
            program = os.fsencode(spawn.get_executable())
            self.pid = util.spawnv_passfds(program, command, passed)
            with os.fdopen(writer, "wb", closefd=False) as file:
                file.write(pickled.getbuffer())
        finally:
            os.close(child_reads)
            os.close(child_writes)


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class WorkerProcess(context.SpawnProcess):
    """Spawned process that leaves the main module alone."""

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> _WorkerPopen:
        return _WorkerPopen(process_obj)


class WorkerContext(context.SpawnContext):
    """Spawn context whose processes are ``WorkerProcess``."""

    Process = WorkerProcess
