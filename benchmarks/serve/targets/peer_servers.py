"""Ours and the peers' servers and engines over one model, side by side, checked to agree.

llama.cpp's server comes by PyPI's ``xllamacpp`` (an AVX2 build), its native build by npm's
``node-llama-cpp``, both with weights in Q8_0; ``onnxruntime-genai`` runs our INT8 graph. A peer
that is not installed is left out, and the figures say so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_setting import BenchSetting
from benchmarks.peer_programs import (
    PEERS,
    PEERS_NODE,
    bench_environment,
    find_interpreter,
    peer_program,
)
from benchmarks.serve.targets.genai_folder import write_genai_folder
from benchmarks.serve.targets.load_targets import (
    HttpTarget,
    LoadTarget,
    ProgramTarget,
    run_target_program,
)
from benchmarks.serve.targets.packed_server import (
    BENCH_LIMITS,
    OURS,
    MeasuredServer,
    pack_model,
    serve_packed,
)
from benchmarks.serve.targets.served_models import BenchModel
from components.core.errors import ConfigError, MillError

LLAMA_SERVER, LLAMA_NATIVE, GENAI = "llama.cpp's server", "llama.cpp, native", "onnxruntime-genai"
LLAMA_FIELDS = {"ignore_eos": True, "top_k": 0, "min_p": 0.0}
"""By default llama.cpp cuts the vocabulary (40 and 0.05) before top-p, which ours does not."""
_AGREEMENT_PROMPTS = 32
LEAST_AGREEMENT = 0.75
"""Of first greedy tokens with ours. Rounding of weights and activations flips one in ten where
two tokens are close; a peer of other weights or rotary angles agrees on none."""


@dataclass(frozen=True)
class SpeedTargets:
    """Servers over HTTP and engines in process, ours first; and why others are absent."""

    servers: list[LoadTarget]
    engines: list[LoadTarget]
    absent: dict[str, str]
    """Peers that are missing, by place."""


@contextmanager
def open_targets(setting: BenchSetting, model: BenchModel, home: Path) -> Iterator[SpeedTargets]:
    """Start all targets that are installed; all end afterwards.

    Args:
        setting: peers of the settings.
        model: served by all.
        home: workspace of our server.

    Raises:
        ConfigError: a setting names a peer that is not there.
        MillError: one did not start, or computes something else.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(open_own_server(model, home))
        source = next((home / "bentos" / "bentos").glob("*/*/src"))
        command = [sys.executable, "-m", "benchmarks.serve.targets.own_engine", str(source)]
        process, _ = stack.enter_context(run_target_program(OURS, command, bench_environment()))
        own_engine = ProgramTarget(OURS, process)
        gguf = make_gguf(setting, model)
        servers = [stack.enter_context(t) for t in _peer_servers(setting, model, gguf)]
        engines = [stack.enter_context(t) for t in _peer_engines(setting, model, gguf)]
        shares = check_agreement(model, ours, [own_engine, *servers, *engines])
        agreed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        setting.on_progress(f"first tokens as ours: {agreed}")
        yield SpeedTargets(
            servers=[ours, *servers],
            engines=[own_engine, *engines],
            absent={
                "over HTTP": _missing([LLAMA_SERVER], servers),
                "in process": _missing([LLAMA_NATIVE, GENAI], engines),
            },
        )


def _missing(names: Sequence[str], present: Sequence[LoadTarget]) -> str:
    absent = [name for name in names if name not in {target.name for target in present}]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def open_own_server(model: BenchModel, home: Path) -> Iterator[HttpTarget]:
    """Our server of a model, packed in a workspace of its own.

    Args:
        model: the model.
        home: folder of the workspace.
    """
    with serve_packed(home, pack_model(home, model)) as server:
        yield HttpTarget(server)


def make_gguf(setting: BenchSetting, model: BenchModel) -> Path | None:
    """The model's GGUF file in Q8_0; None where the package that writes it is not installed."""
    path = model.folder / "model-q8_0.gguf"
    written = setting.run_peer("write_gguf", "gguf", str(model.folder), str(path))
    return path if written is not None else None


def _peer_servers(
    setting: BenchSetting, model: BenchModel, gguf: Path | None
) -> Iterator[AbstractContextManager[LoadTarget]]:
    python = find_interpreter(setting.settings, "xllamacpp")
    if python is not None and gguf is not None:
        yield open_llama_server(python, gguf, model)


@contextmanager
def open_llama_server(python: Path, gguf: Path, model: BenchModel) -> Iterator[HttpTarget]:
    """llama.cpp's server on one thread, with as many slots as ours.

    Args:
        python: interpreter with xllamacpp.
        gguf: the model.
        model: for its context.
    """
    size = [str(BENCH_LIMITS.slots), str(model.shape.context)]
    command = [str(python), str(peer_program("xllamacpp_server")), str(gguf), *size]
    with run_target_program(LLAMA_SERVER, command, _peer_environment()) as (process, ready):
        server = MeasuredServer(LLAMA_SERVER, ready["port"], process.pid)
        yield HttpTarget(server, LLAMA_FIELDS)


def _peer_engines(
    setting: BenchSetting, model: BenchModel, gguf: Path | None
) -> Iterator[AbstractContextManager[LoadTarget]]:
    install = setting.settings.llama_node or PEERS_NODE
    if gguf is not None and (setting.settings.llama_node or _holds_llama(install)):
        yield _open_engine(LLAMA_NATIVE, _node_command(install, gguf, model))
    python = find_interpreter(setting.settings, "onnxruntime_genai")
    if python is not None:
        folder = model.folder / "genai"
        write_genai_folder(model, folder)
        yield _open_engine(GENAI, [str(python), str(peer_program("genai_engine")), str(folder)])


def _holds_llama(install: Path) -> bool:
    return (install / "node_modules" / "node-llama-cpp").is_dir()


def _node_command(install: Path, gguf: Path, model: BenchModel) -> list[str]:
    """Command of llama.cpp's native build.

    Raises:
        ConfigError: there is no node-llama-cpp in the folder, or no node.
    """
    if not _holds_llama(install):
        raise ConfigError(f"MODELMILL_LLAMA_NODE: {install}: npm installed no node-llama-cpp there")
    node = shutil.which("node")
    if node is None:
        raise ConfigError("MODELMILL_LLAMA_NODE: there is no node on the path to run it with")
    program = PEERS / "serve" / "node_llama.mjs"
    size = [str(BENCH_LIMITS.slots), str(model.shape.context)]
    return [node, str(program), str(install), str(gguf), *size]


@contextmanager
def _open_engine(name: str, command: Sequence[str]) -> Iterator[ProgramTarget]:
    with run_target_program(name, command, _peer_environment()) as (process, _):
        yield ProgramTarget(name, process)


def _peer_environment() -> dict[str, str]:
    variables = bench_environment()
    variables.pop("PYTHONPATH")
    return variables


def check_agreement(
    model: BenchModel,
    ours: LoadTarget,
    others: Sequence[LoadTarget],
    least: float = LEAST_AGREEMENT,
) -> dict[str, float]:
    """Share of prompts after which each target's first greedy token is ours.

    Args:
        model: makes the prompts, of 1 token to half the context.
        ours: the target that the others are compared with.
        others: targets that claim to serve the same model.
        least: smallest share.

    Raises:
        MillError: a target agrees on fewer.
    """
    longest = model.shape.context // 2
    lengths = [1 + longest * step // _AGREEMENT_PROMPTS for step in range(_AGREEMENT_PROMPTS)]
    prompts = [model.make_prompt(length, seed) for seed, length in enumerate(lengths)]
    wanted = [text.strip() for text in ours.first_texts(prompts)]
    shares = {}
    for target in others:
        texts = [text.strip() for text in target.first_texts(prompts)]
        same = sum(mine == theirs for mine, theirs in zip(wanted, texts, strict=True))
        shares[target.name] = same / len(prompts)
        if shares[target.name] < least:
            raise MillError(
                f"bench serve: {target.name} computes something else: its first token is that of "
                f"{ours.name}'s after {same} of {len(prompts)} prompts"
            )
    return shares
