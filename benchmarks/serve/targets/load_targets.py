"""Targets of a load: a server over HTTP, or an engine within a program of its own.

Both do the same work, answers of a set length to the same prompts, and tell the tokens, the wall
time and the processor time of one round.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from benchmarks.serve.load_generator import LoadGenerator, LoadRequest, completion_message
from benchmarks.serve.targets.packed_server import MeasuredServer
from components.core.errors import MillError
from components.core.process.process_tree import kill_process_tree


@dataclass(frozen=True)
class RoundLoad:
    """Work of one round: a prompt for each answer, so many of them at a time."""

    prompts: Sequence[str]
    streams: int
    tokens: int
    """Of every answer."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class RoundResult:
    """Tokens and times of one round."""

    tokens: int
    seconds: float
    processor_seconds: float
    """User and system time of all processes of the target."""
    client_seconds: float = 0.0
    """Processor time of the generator of load."""

    @property
    def speed(self) -> float:
        """Tokens a second of all streams together."""
        return self.tokens / self.seconds

    @property
    def processor_us(self) -> float:
        """Microseconds of processor time a token."""
        return self.processor_seconds / self.tokens * 1e6

    @property
    def client_us(self) -> float:
        """The same of the generator of load."""
        return self.client_seconds / self.tokens * 1e6


class LoadTarget(Protocol):
    """Something that answers a round of prompts."""

    @property
    def name(self) -> str: ...

    def run_round(self, load: RoundLoad) -> RoundResult: ...

    def first_texts(self, prompts: Sequence[str]) -> list[str]: ...


@dataclass(frozen=True)
class HttpTarget:
    """A server, asked for streamed completions over HTTP on loopback."""

    server: MeasuredServer
    fields: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, that make its work equal to the others'."""

    @property
    def name(self) -> str:
        return self.server.name

    def message(self, prompt: str, load: RoundLoad, index: int) -> bytes:
        """The request of one answer.

        Args:
            prompt: text to continue.
            load: length and sampling.
            index: of the answer in its round; its seed.
        """
        sampling: dict[str, Any] = {"temperature": load.temperature}
        if load.temperature:
            sampling |= {"top_p": load.top_p, "seed": load.seed + index}
        return completion_message(prompt=prompt, max_tokens=load.tokens, **sampling, **self.fields)

    def run_round(self, load: RoundLoad) -> RoundResult:
        """Answer all prompts of a load.

        Raises:
            MillError: an answer was refused, broke off or has another length.
        """
        requests = [
            LoadRequest(self.message(prompt, load, index))
            for index, prompt in enumerate(load.prompts)
        ]
        processor, client = self.server.processor_seconds(), time.process_time()
        began = time.perf_counter()
        records = LoadGenerator(self.server.port).run_closed(requests, load.streams)
        seconds = time.perf_counter() - began
        for record in records:
            if not record.whole or record.completion_tokens != load.tokens:
                raise MillError(
                    f"bench serve: {self.name} answered {record.completion_tokens} tokens of "
                    f"{load.tokens} (HTTP {record.status})"
                )
        return RoundResult(
            load.tokens * len(records),
            seconds,
            self.server.processor_seconds() - processor,
            time.process_time() - client,
        )

    def first_texts(self, prompts: Sequence[str]) -> list[str]:
        """Text of the first greedy token after each prompt."""
        load = RoundLoad(prompts, 1, 1)
        requests = [
            LoadRequest(self.message(prompt, load, 0), keeps_body=True) for prompt in prompts
        ]
        records = LoadGenerator(self.server.port).run_closed(requests, 1)
        return [record.text for record in records]


@dataclass(frozen=True)
class ProgramTarget:
    """An engine in a program of its own, which reads a load a line and writes its result.

    It measures itself: a line holds ``tokens``, ``seconds`` and ``processor`` (seconds).
    """

    name: str
    process: subprocess.Popen[str]

    def run_round(self, load: RoundLoad) -> RoundResult:
        """Answer all prompts of a load, without any server.

        Raises:
            MillError: the program ended, or its answers have another length.
        """
        result = self.ask(asdict(load))
        if result["tokens"] != load.tokens * len(load.prompts):
            raise MillError(
                f"bench serve: {self.name} made {result['tokens']} tokens of "
                f"{load.tokens * len(load.prompts)}"
            )
        return RoundResult(result["tokens"], result["seconds"], result["processor"])

    def first_texts(self, prompts: Sequence[str]) -> list[str]:
        """Text of the first greedy token after each prompt."""
        load = asdict(RoundLoad(prompts, 1, 1))
        return list(self.ask({**load, "texts": True})["texts"])

    def ask(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Result of one line.

        Raises:
            MillError: the program ended, or writes something else.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(fields) + "\n")
        self.process.stdin.flush()
        return read_program_line(self.name, self.process)


@contextmanager
def run_target_program(
    name: str, command: Sequence[str], variables: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a program that answers lines on its input; yields it with its first line, when ready.

    Args:
        name: of the tool, for messages.
        command: program and arguments.
        variables: its environment.

    Raises:
        MillError: it ended before it was ready; with its last lines of output.
    """
    with subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process, read_program_line(name, process)
        finally:
            kill_process_tree(process.pid)


def read_program_line(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of a program that is a JSON object; lines of its libraries are passed over.

    Args:
        name: of the tool, for messages.
        process: the program.

    Raises:
        MillError: it ended.
    """
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        if line.startswith("{"):
            value: dict[str, Any] = json.loads(line)
            if "error" in value:
                raise MillError(f"bench serve: {name}: {value['error']}")
            return value
        last = line.strip() or last
    raise MillError(f"bench serve: {name}: its program ended: {last}")
