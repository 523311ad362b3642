"""Starts the ranks of one training and waits for them; also the program that a rank is.

    torchrun --nproc-per-node 8 -m components.train.distributed.launch_ranks
    STORE/partial/KEY/scratch/muster.json

A stage writes down what is to be trained (the muster), its ranks train it in the stage's folder,
and the stage seals what they left there. Ranks on this machine are started by the stage and die
with it; with ``parallel.launcher: torchrun`` a person starts them, on any number of machines that
see the store, and then calls the stage again; Ray Train starts them where ``ray`` is installed.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from components.core.errors import ConfigError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.process.process_tree import end_with
from components.core.process.shutdown import shielded
from components.core.process.thread_search import thread_limit
from components.core.progress import Progress
from components.core.settings import export_spin
from components.core.store.artifact import Lineage, canonical
from components.core.store.workdir import Workdir
from components.train.device import device_of
from components.train.distributed.progress_pipe import Hearing, Message, messages, telling
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from components.train.pretrain_rank import pretrain_on_rank

if TYPE_CHECKING:
    import torch

    from components.train.distributed.process_group import Company

MUSTER, DONE = "muster.json", "trained.json"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 2.0
"""How long the ranks that live on are given to say why they ended, after one has died."""
log = get_logger(__name__)


class Muster(BaseModel):
    """What the ranks are to train, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    key: str
    lineage: Lineage
    config: PretrainConfig
    inputs: PretrainInputs


def train_on_ranks(
    config: PretrainConfig, inputs: PretrainInputs, work: Workdir
) -> dict[str, float]:
    """Train on ``config.parallel.ranks`` processes into ``work.folder``; the stats.

    Raises:
        ConfigError: there are fewer GPUs than ranks, or the launcher is absent.
        MillError: a rank died or gave up; the same call goes on from the last saved state.
    """
    done = work.scratch / DONE
    if not done.is_file():
        muster = Muster(
            root=work.root.resolve(),
            key=work.key,
            lineage=work.lineage,
            config=config,
            inputs=inputs,
        )
        path = work.scratch / MUSTER
        write_atomically(path, muster.model_dump_json().encode())
        launcher = config.parallel.launcher
        if launcher == "torchrun":
            raise ConfigError(
                f"parallel.launcher is torchrun: start {config.parallel.ranks} ranks with "
                "`torchrun --nproc-per-node N -m components.train.distributed.launch_ranks "
                f"{path}`, then repeat this"
            )
        if launcher == "ray":
            _with_ray(path, config)
        else:
            _check_devices(config)
            _with_processes(path, config.parallel.ranks, work.progress)
    stats: dict[str, float] = json.loads(done.read_bytes())
    return stats


def main(arguments: list[str]) -> int:
    """A rank that torchrun started: its number and its peers are in the environment."""
    if len(arguments) != 1:
        sys.stderr.write(
            "usage: torchrun ... -m components.train.distributed.launch_ranks MUSTER.json\n"
        )
        return 2
    try:
        export_spin()
        serve(Path(arguments[0]), Progress())
    except MillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def serve(path: Path, progress: Progress, **place: Any) -> None:
    """Train as one rank; the first leaves the result where the stage looks for it."""
    from torch.distributed import get_node_local_rank

    from components.train.distributed.process_group import join

    muster = Muster.model_validate_json(path.read_bytes())
    local = get_node_local_rank(fallback_rank=place.get("rank", 0))
    company = join(muster.config.parallel, _device(muster.config, local), **place)
    work = _own_workdir(muster, company, progress)
    stats = pretrain_on_rank(muster.config, muster.inputs, work, company)
    if company.rank == 0:
        write_atomically(path.with_name(DONE), canonical(stats))
    company.leave()


def _own_workdir(muster: Muster, company: Company, progress: Progress) -> Workdir:
    """The stage's folder for the first rank; for each other one of its own, which nobody reads.

    Journals decide what is trained, so all ranks begin with those of the first.
    """
    first = company.rank == 0
    key = muster.key if first else f"{muster.key}/scratch/ranks/{company.rank}"
    work = Workdir(muster.root, key, muster.lineage, progress=progress)
    kept = {MUSTER, DONE}
    here = {p.name: p.read_bytes() for p in work.scratch.glob("*.json") if p.name not in kept}
    journals: Mapping[str, bytes] = company.agreed(here)
    if not first:
        for name in here.keys() - journals.keys():
            (work.scratch / name).unlink()
        for name, content in journals.items():
            write_atomically(work.scratch / name, content)
    return work


def _device(config: PretrainConfig, local: int) -> torch.device:
    import torch

    asked = device_of(config.device)
    return torch.device("cuda", local) if asked.type == "cuda" else asked


def _check_devices(config: PretrainConfig) -> None:
    import torch

    ranks = config.parallel.ranks
    if device_of(config.device).type == "cuda" and torch.cuda.device_count() < ranks:
        raise ConfigError(
            f"parallel asks for {ranks} ranks, this machine has {torch.cuda.device_count()} GPUs: "
            "lower parallel.data, or set parallel.launcher to torchrun and start them on several"
        )


def _with_processes(path: Path, ranks: int, progress: Progress) -> None:
    """Ranks as spawned processes of this machine, which meet at a store in this one."""
    from torch._C._distributed_c10d import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    threads = max(1, thread_limit() // ranks)
    spawn = multiprocessing.get_context("spawn")
    children: list[tuple[Any, Connection]] = []
    try:
        for rank in range(ranks):
            ours, theirs = spawn.Pipe(duplex=False)
            given = (path, rank, ranks, store.port, threads, os.getpid(), theirs)
            child = spawn.Process(target=_spawned, args=given, name=f"rank-{rank}")
            with shielded():
                child.start()
            theirs.close()
            children.append((child, ours))
        _watch(children, progress)
    finally:
        for child, pipe in children:
            if child.is_alive():
                child.kill()
            child.join()
            pipe.close()


def _spawned(
    path: Path, rank: int, ranks: int, port: int, threads: int, parent: int, pipe: Connection
) -> None:
    """A rank's whole life; what it has to say goes through ``pipe``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    import torch
    from torch._C._distributed_c10d import TCPStore

    torch.set_num_threads(threads)
    progress = telling(pipe) if rank == 0 else Progress()
    try:
        store = TCPStore("127.0.0.1", port, is_master=False)
        serve(path, progress, rank=rank, store=store)
    except Exception as error:
        told = isinstance(error, MillError)
        line = str(error) if told else f"{type(error).__name__}: {' '.join(str(error).split())}"
        kind = "config" if isinstance(error, ConfigError) else "error" if told else "fault"
        pipe.send((kind, line[:2000]))
        if not told:
            log.exception("rank %d", rank)
        os._exit(1)  # other threads may hang in a call that no one answers any more


def _watch(children: list[tuple[Any, Connection]], progress: Progress) -> None:
    """Show how far the first rank is, until all are done or one is not.

    Raises:
        ConfigError, MillError: what a rank said, or how it died.
    """
    said: dict[int, Message] = {}
    hearing = Hearing(progress)

    def hear() -> None:
        for rank, (_, pipe) in enumerate(children):
            said.update({rank: one for one in messages(pipe) if not hearing.take(one)})  # noqa: B035

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
    hearing.close(failed=any(codes))
    _judge(codes, said)


def _judge(codes: list[int | None], said: Mapping[int, Message]) -> None:
    """The cause, not what it did to the others: a refusal, then a kill, then a fault."""
    if all(code == 0 for code in codes):
        return
    for wanted, error in (("config", ConfigError), ("error", MillError)):
        for kind, line in said.values():
            if kind == wanted:
                raise error(line)
    resume = "run the same command, it goes on from the last saved state"
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            raise MillError(f"rank {rank} of {len(codes)} was ended by {name}: {resume}")
    rank, line = min(((r, line) for r, (_, line) in said.items()), default=(0, "no word of why"))
    raise MillError(f"rank {rank} of {len(codes)} failed ({line}): {resume}")


def _with_ray(path: Path, config: PretrainConfig) -> None:
    """Ranks as the workers of Ray Train, which sets what torchrun would.

    Raises:
        ConfigError: Ray is not installed.
        MillError: a worker failed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "parallel.launcher is ray, which is not installed: pip install 'ray[train]' (the "
            "extra `ray`), or set it to spawn or torchrun"
        )
    from components.train.distributed.cluster_ranks import fit

    fit(path, config.parallel.ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
