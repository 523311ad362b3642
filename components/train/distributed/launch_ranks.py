"""Launcher of a multi-process training, and the entry point of each of its ranks.

A stage writes a job specification (``job.json``) into its scratch folder, its ranks train into the
stage's folder, and the stage seals the result. With ``parallel.launcher: spawn`` the stage starts
the ranks on this machine, and they end when it does. With ``torchrun`` a person starts them, on any
number of machines that see the store, then runs the stage again. ``ray`` starts them as workers of
Ray Train. The function that a rank runs is an argument: this module imports no stage.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from components.core.errors import ConfigError, MillError, typed_error_line
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.process.process_tree import terminate_with_parent
from components.core.process.shutdown import block_interrupts
from components.core.process.thread_search import thread_limit
from components.core.process.worker_context import WorkerContext
from components.core.progress import Progress
from components.core.store.artifact import Lineage, canonical_json
from components.core.store.workdir import Workdir
from components.core.thread_settings import export_spin
from components.train.device import resolve_device
from components.train.distributed.progress_pipe import (
    Message,
    PipeReader,
    piped_progress,
    read_messages,
)
from components.train.pretrain_config import PretrainConfig, PretrainInputs

if TYPE_CHECKING:
    import torch

    from components.train.distributed.process_group import ProcessGroups
    from components.train.distributed.single_process import Collectives

JOB_FILE, RESULT_FILE = "job.json", "trained.json"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0
"""Wait, after one rank has died, for the others to report their own errors."""
log = get_logger(__name__)


class RankTraining(Protocol):
    """A module-level function that trains as one rank and returns the stage's stats.

    Its module is a program too: torchrun is told to run it with the path of ``job.json``.
    """

    __module__: str

    def __call__(
        self,
        config: PretrainConfig,
        inputs: PretrainInputs,
        work: Workdir,
        collectives: Collectives,
    ) -> dict[str, float]: ...


class JobSpec(BaseModel):
    """Specification of a multi-process training: config, inputs and the folder of its stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    key: str
    lineage: Lineage
    config: PretrainConfig
    inputs: PretrainInputs


def train_on_ranks(
    train: RankTraining, config: PretrainConfig, inputs: PretrainInputs, work: Workdir
) -> dict[str, float]:
    """Train on ``config.parallel.ranks`` processes into ``work.folder``; returns the stats.

    Args:
        train: called in every rank.
        config: config of the training; its ``parallel`` says how many ranks, and who starts them.
        inputs: artifacts of the stage.
        work: folder of the stage; what is written there is left for the caller to seal.

    Raises:
        ConfigError: there are fewer GPUs than ranks, or the launcher is absent.
        MillError: a rank died or gave up; the same call goes on from the last saved state.
    """
    result = work.scratch / RESULT_FILE
    if not result.is_file():
        job = JobSpec(
            root=work.root.resolve(),
            key=work.key,
            lineage=work.lineage,
            config=config,
            inputs=inputs,
        )
        path = work.scratch / JOB_FILE
        write_atomically(path, job.model_dump_json().encode())
        launcher = config.parallel.launcher
        if launcher == "torchrun":
            raise ConfigError(
                f"parallel.launcher is torchrun: start {config.parallel.ranks} ranks with "
                f"`torchrun --nproc-per-node N -m {train.__module__} {path}`, then repeat this"
            )
        if launcher == "ray":
            _with_ray(train, path, config)
        else:
            _check_devices(config)
            _with_processes(train, path, config.parallel.ranks, work.progress)
    stats: dict[str, float] = json.loads(result.read_bytes())
    return stats


def run_torchrun_rank(train: RankTraining, arguments: list[str]) -> int:
    """Main function of a rank that torchrun started; returns the exit code.

    torchrun puts the rank's number and the address of its peers into the environment.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: torchrun ... -m MODULE PATH/{JOB_FILE}\n")
        return 2
    try:
        export_spin()
        run_rank(train, Path(arguments[0]), Progress())
    except MillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def run_rank(train: RankTraining, path: Path, progress: Progress, **meeting: Any) -> None:
    """Train as one rank; rank 0 writes the stats where the stage reads them.

    Args:
        train: the training.
        path: the job specification.
        progress: progress of this rank.
        meeting: ``rank`` and ``store`` where the launcher gives them; else the environment does.
    """
    from torch.distributed import get_node_local_rank

    from components.train.distributed.process_group import join_ranks

    job = JobSpec.model_validate_json(path.read_bytes())
    local = get_node_local_rank(fallback_rank=meeting.get("rank", 0))
    groups = join_ranks(job.config.parallel, _device(job.config, local), **meeting)
    work = _own_workdir(job, groups, progress)
    stats = train(job.config, job.inputs, work, groups)
    if groups.rank == 0:
        write_atomically(path.with_name(RESULT_FILE), canonical_json(stats))
    groups.leave_ranks()


def _own_workdir(job: JobSpec, groups: ProcessGroups, progress: Progress) -> Workdir:
    """The stage's folder for rank 0; for every other rank a scratch folder that is never read.

    Journals decide what is trained, so all ranks begin with those of rank 0.
    """
    first = groups.rank == 0
    key = job.key if first else f"{job.key}/scratch/ranks/{groups.rank}"
    work = Workdir(job.root, key, job.lineage, progress=progress)
    own = {
        path.name: path.read_bytes()
        for path in work.scratch.glob("*.json")
        if path.name not in (JOB_FILE, RESULT_FILE)
    }
    journals: Mapping[str, bytes] = groups.broadcast(own)
    if not first:
        for name in own.keys() - journals.keys():
            (work.scratch / name).unlink()
        for name, content in journals.items():
            write_atomically(work.scratch / name, content)
    return work


def _device(config: PretrainConfig, local: int) -> torch.device:
    import torch

    device = resolve_device(config.device)
    return torch.device("cuda", local) if device.type == "cuda" else device


def _check_devices(config: PretrainConfig) -> None:
    import torch

    ranks = config.parallel.ranks
    if resolve_device(config.device).type == "cuda" and torch.cuda.device_count() < ranks:
        raise ConfigError(
            f"parallel asks for {ranks} ranks, this machine has {torch.cuda.device_count()} GPUs: "
            "lower parallel.data, or set parallel.launcher to torchrun and start them on several"
        )


def _with_processes(train: RankTraining, path: Path, ranks: int, progress: Progress) -> None:
    """Spawn the ranks on this machine; they meet at a TCP store in this process."""
    from torch._C._distributed_c10d import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    threads = max(1, thread_limit() // ranks)
    spawn = WorkerContext()
    children: list[tuple[Any, Connection]] = []
    try:
        for rank in range(ranks):
            reader, writer = spawn.Pipe(duplex=False)
            arguments = (train, path, rank, store.port, threads, os.getpid(), writer)
            child = spawn.Process(target=_spawned, args=arguments, name=f"rank-{rank}")
            with block_interrupts():
                child.start()
            writer.close()
            children.append((child, reader))
        _watch(children, progress)
    finally:
        for child, pipe in children:
            if child.is_alive():
                child.kill()
            child.join()
            pipe.close()


def _spawned(
    train: RankTraining,
    path: Path,
    rank: int,
    port: int,
    threads: int,
    parent: int,
    pipe: Connection,
) -> None:
    """Main function of a spawned rank; progress and errors go through ``pipe``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate_with_parent(parent)
    import torch
    from torch._C._distributed_c10d import TCPStore

    torch.set_num_threads(threads)
    progress = piped_progress(pipe) if rank == 0 else Progress()
    try:
        store = TCPStore("127.0.0.1", port, is_master=False)
        run_rank(train, path, progress, rank=rank, store=store)
    except Exception as error:
        expected = isinstance(error, MillError)
        line = str(error) if expected else typed_error_line(error)
        kind = "config" if isinstance(error, ConfigError) else "error" if expected else "fault"
        pipe.send((kind, line[:2000]))
        if not expected:
            log.exception("rank %d", rank)
        os._exit(1)  # other threads may hang in a collective that no rank answers any more


def _watch(children: list[tuple[Any, Connection]], progress: Progress) -> None:
    """Show the progress of rank 0 until all ranks have ended or one has failed.

    Raises:
        ConfigError, MillError: what a rank said, or how it died.
    """
    errors: dict[int, Message] = {}
    reader = PipeReader(progress)

    def hear() -> None:
        for rank, (_, pipe) in enumerate(children):
            for message in read_messages(pipe):
                if not reader.apply_message(message):
                    errors[rank] = message

    dead_since: float | None = None
    while any(child.is_alive() for child, _ in children):
        hear()
        if any(child.exitcode not in (None, 0) for child, _ in children):
            dead_since = dead_since or time.monotonic()
            if time.monotonic() - dead_since > _GRACE_SECONDS:
                break
        time.sleep(_POLL_SECONDS)
    hear()
    codes = [child.exitcode for child, _ in children]
    reader.close(failed=any(codes))
    _raise_cause(codes, errors)


def _raise_cause(codes: list[int | None], errors: Mapping[int, Message]) -> None:
    """Raise the root cause: a refusal, else a kill, else a fault; never what followed from it."""
    if all(code == 0 for code in codes):
        return
    for refusal_kind, error in (("config", ConfigError), ("error", MillError)):
        for kind, line in errors.values():
            if kind == refusal_kind:
                raise error(line)
    resume = "run the same command, it goes on from the last saved state"
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            raise MillError(f"rank {rank} of {len(codes)} was ended by {name}: {resume}")
    rank, line = min(
        ((rank, line) for rank, (_, line) in errors.items()), default=(0, "no word of why")
    )
    raise MillError(f"rank {rank} of {len(codes)} failed ({line}): {resume}")


def _with_ray(train: RankTraining, path: Path, config: PretrainConfig) -> None:
    """Start the ranks as workers of Ray Train, which sets the environment as torchrun does.

    Raises:
        ConfigError: Ray is not installed.
        MillError: a worker failed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "parallel.launcher is ray, which is not installed: pip install 'ray[train]' (the "
            "extra `ray`), or set it to spawn or torchrun"
        )
    from components.train.distributed.cluster_ranks import train_on_ray

    def run() -> None:
        run_rank(train, path, Progress())

    train_on_ray(run, config.parallel.ranks, path.parent / "ray")
