"""Parallel renderer of module pages in worker processes; each page is available when it is done.

Every group (one top-level package) is rendered by one worker, in order, since the members on a page
depend on those that the group's earlier pages showed. A finished group is kept in ``folder``, so
that a site opened again after a kill renders only the rest. A worker that dies or takes too long
over a module is replaced and goes on without that module.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import components
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.process.shutdown import block_interrupts

log = get_logger(__name__)
_CHECKOUT = Path(components.__file__).parents[1]


@dataclass
class RenderedModule:
    """Pages of one module, or the reason for which it has none."""

    parts: list[str] = field(default_factory=list)
    reason: str = ""


class PageRenderer:
    """Context manager with worker threads, in which modules' pages are waited for."""

    def __init__(
        self,
        groups: Mapping[str, Sequence[str]],
        *,
        workers: int,
        module_seconds: float,
        folder: Path | None = None,
    ) -> None:
        self._groups = groups
        self._site = [name for modules in groups.values() for name in modules]
        self._seconds = module_seconds
        self._folder = folder
        self._done: dict[str, RenderedModule] = {}
        self._changed = threading.Condition()
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._workers = [_WorkerProcess() for _ in range(workers)]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> PageRenderer:
        for name in self._groups:
            if not self._load_group(name):
                self._waiting.put(name)
        for worker in self._workers:
            thread = threading.Thread(target=self._serve_queue, args=(worker,), daemon=True)
            with block_interrupts():
                thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join()
        with self._changed:
            self._changed.notify_all()

    def wait_for_module(self, module: str, seconds: float) -> RenderedModule | None:
        """Wait for a module's pages; None where they are not rendered after ``seconds``."""
        with self._changed:
            self._changed.wait_for(
                lambda: module in self._done or self._closing.is_set(), timeout=seconds
            )
            return self._done.get(module)

    def skipped(self) -> dict[str, str]:
        """Modules that could not be rendered so far, with the reason."""
        with self._changed:
            return {
                name: rendered.reason for name, rendered in self._done.items() if rendered.reason
            }

    def _serve_queue(self, worker: _WorkerProcess) -> None:
        """Render groups until the queue is empty (in a thread of its own)."""
        while not self._closing.is_set():
            try:
                name = self._waiting.get_nowait()
            except queue.Empty:
                break
            self._render_group(worker, name)
        worker.stop()

    def _render_group(self, worker: _WorkerProcess, group: str) -> None:
        modules = list(self._groups[group])
        results: dict[str, RenderedModule] = {}
        while modules and not self._closing.is_set():
            failed = self._render_modules(worker, modules, results)
            if failed is None:
                break
            # A new worker renders the group again without it, since the members on later pages
            # depend on those of earlier ones.
            reason = f"its import or rendering ended the worker or took {self._seconds:g} s"
            results[failed] = RenderedModule(reason=reason)
            self._publish(failed, results[failed])
            modules.remove(failed)
        # Complete groups alone, also when the site is closed right after the last page.
        if len(results) == len(self._groups[group]):
            self._save_group(group, results)

    def _render_modules(
        self, worker: _WorkerProcess, modules: list[str], results: dict[str, RenderedModule]
    ) -> str | None:
        """Render ``modules``; the module that stopped the worker, else None."""
        worker.send({"modules": modules, "site": self._site})
        for module in modules:
            if self._closing.is_set():
                return None
            answer = worker.receive(self._seconds)
            if answer is None:
                worker.stop()
                return module
            rendered = RenderedModule(answer.get("parts", []), answer.get("reason", ""))
            results[module] = rendered
            self._publish(module, rendered)
        worker.receive(self._seconds)
        return None

    def _publish(self, module: str, rendered: RenderedModule) -> None:
        with self._changed:
            self._done.setdefault(module, rendered)
            self._changed.notify_all()

    def _save_group(self, group: str, results: dict[str, RenderedModule]) -> None:
        if self._folder is None:
            return
        value = {name: [rendered.parts, rendered.reason] for name, rendered in results.items()}
        path = self._folder / f"{group}.json"
        write_atomically(path, json.dumps(value).encode())

    def _load_group(self, group: str) -> bool:
        path = self._folder / f"{group}.json" if self._folder is not None else None
        if path is None or not path.exists():
            return False
        for name, (parts, reason) in json.loads(path.read_text(encoding="utf-8")).items():
            self._done[name] = RenderedModule(parts, reason)
        return True


class _WorkerProcess:
    """One process of ``components.collect.docsite.render_worker``, started on first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def send(self, order: dict[str, Any]) -> None:
        with self._lock:
            process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            log.debug("a rendering worker died before it was asked")

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Next answer; None where the process ended or is silent for ``seconds``."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Kill the process; the next order starts another."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None
            if self._home is not None:
                self._home.cleanup()
                self._home = None

    def _start(self) -> subprocess.Popen[str]:
        from components.collect.docsite import (
            render_worker,  # imports pdoc, which only the worker needs
        )

        self._home = tempfile.TemporaryDirectory(prefix="modelmill-render-")
        # A bare environment: no secret can reach a page, and string hashes are reproducible.
        environment = {
            "HOME": self._home.name,
            "MPLCONFIGDIR": self._home.name,
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(_CHECKOUT),
            "PYTHONUTF8": "1",
            "TZ": "UTC",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", render_worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._home.name,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self._answers = queue.SimpleQueue()
        reader = threading.Thread(
            target=_forward_answers, args=(self._process, self._answers), daemon=True
        )
        reader.start()
        return self._process


def _forward_answers(
    process: subprocess.Popen[str], answers: queue.SimpleQueue[dict[str, Any] | None]
) -> None:
    """Forward a worker's answers to a queue, then None at its end (in a thread of its own)."""
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(json.loads(line))
    answers.put(None)
