"""Latency at half of saturation, and the behaviour beyond it, under arrivals that wait for nobody.

Requests come as a Poisson process of a fixed seed, whatever the server does, and each is timed from
when it was due: closed loops, where a slow answer holds back the next request, hide queueing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.load_generator import (
    LoadGenerator,
    LoadRequest,
    StreamRecord,
    poisson_offsets,
)
from benchmarks.serve.request_mix import (
    MIXED,
    RequestSizes,
    Saturation,
    count_tokens,
    measure_saturation,
    mix_requests,
)
from benchmarks.serve.targets.load_targets import HttpTarget, LoadTarget
from benchmarks.serve.targets.packed_server import pack_model, serve_packed
from benchmarks.serve.targets.peer_servers import open_targets
from benchmarks.serve.targets.served_models import BenchModel, make_bench_model
from models.shape import DecoderShape
from models.shape_presets import TINY
from serving.api.limits import EndpointLimits

FIRST_TOKEN_SECONDS = 0.1
LEAST_GOODPUT, REFUSED_SECONDS, RECOVERED_SECONDS = 0.9, 0.05, 2.0
_OVERLOAD = 3.0
_OVERLOADED = "overload of 3 times saturation"
_SEED = 17
_PROBES_A_SECOND, _PROBE_SECONDS = 10, 8.0
"""Small requests after an overload, by which its end is seen."""
_PROBE = RequestSizes(prompt=(8, 8), answer=(4, 4))


@dataclass(frozen=True)
class ArrivalSetup:
    """Shape, lengths and durations; a test has small ones."""

    shape: DecoderShape = TINY
    slots: int = 16
    sizes: RequestSizes = MIXED
    saturating: int = 320
    """Requests by which saturation is measured, some ten seconds."""
    seconds: float = 20.0
    """Length of the arrivals."""


def measure_first_token(
    setting: BenchSetting, setup: ArrivalSetup = ArrivalSetup()
) -> list[BenchFigure]:
    """99th percentile of the time to the first token, at half of each server's saturation.

    Args:
        setting: scratch folder and peers.
        setup: shape, lengths and durations.

    Raises:
        MillError: a request failed.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    with open_targets(setting, model, setting.scratch / "home") as targets:
        return first_token_figures(targets.servers, model, setup)


def first_token_figures(
    targets: Sequence[LoadTarget], model: BenchModel, setup: ArrivalSetup
) -> list[BenchFigure]:
    """Figures of the times to the first token, each server at half of its own saturation.

    Args:
        targets: servers, ours first.
        model: makes the prompts.
        setup: lengths and durations.
    """
    notes: list[str] = []
    late: list[float] = []
    for target in targets:
        assert isinstance(target, HttpTarget)
        rate = _saturate(target, model, setup).requests_per_second / 2
        records = _arrive(target, model, rate, setup)
        firsts = [r.first_event_seconds for r in records if r.event_times]
        late.append(float(np.quantile(firsts, 0.99)))
        notes.append(
            f"{target.name} median {np.median(firsts) * 1e3:.1f} ms, largest "
            f"{max(firsts) * 1e3:.0f} ms of {len(records)} at {rate:.1f}/s"
        )
    name = "time to the first token, 99th percentile, at half of saturation"
    ours = BenchFigure.against_target(
        name, late[0] * 1e3, "ms", FIRST_TOKEN_SECONDS * 1e3, note="; ".join(notes)
    )
    if len(late) == 1:
        return [ours]
    peer = targets[1].name
    return [ours, BenchFigure.beside_peer(name, late[0] * 1e3, "ms", peer, late[1] * 1e3, False)]


def _saturate(target: HttpTarget, model: BenchModel, setup: ArrivalSetup) -> Saturation:
    """Saturation, after a quarter as many requests that warm up."""
    warm = mix_requests(target, model, max(1, setup.saturating // 4), _SEED + 1, setup.sizes)
    measure_saturation(target, warm, setup.slots)
    requests = mix_requests(target, model, setup.saturating, _SEED + 2, setup.sizes)
    return measure_saturation(target, requests, setup.slots)


def _arrive(
    target: HttpTarget, model: BenchModel, rate: float, setup: ArrivalSetup
) -> list[StreamRecord]:
    offsets = poisson_offsets(rate, setup.seconds, _SEED)
    requests = mix_requests(target, model, len(offsets), _SEED, setup.sizes)
    return LoadGenerator(target.server.port).run_open(requests, offsets)


def measure_overload(
    setting: BenchSetting, setup: ArrivalSetup = ArrivalSetup()
) -> list[BenchFigure]:
    """Goodput, refusals and recovery of our server at three times its saturation.

    Args:
        setting: scratch folder.
        setup: shape, lengths and durations.

    Raises:
        MillError: a request failed while the server was not overloaded.
    """
    model = make_bench_model(setting.scratch / "model", "3 M", setup.shape)
    home = setting.scratch / "home"
    limits = EndpointLimits(slots=setup.slots, threads=1)  # the queue that is the default
    with serve_packed(home, pack_model(home, model, limits=limits)) as server:
        return overload_figures(*overload_server(HttpTarget(server), model, setup), setup.seconds)


def overload_server(
    target: HttpTarget, model: BenchModel, setup: ArrivalSetup
) -> tuple[list[StreamRecord], Saturation]:
    """Records of an overload and of the probes that follow it, and the saturation before.

    Args:
        target: the server.
        model: makes the prompts.
        setup: lengths and durations.
    """
    peak = _saturate(target, model, setup)
    offsets = poisson_offsets(peak.requests_per_second * _OVERLOAD, setup.seconds, _SEED)
    requests = mix_requests(target, model, len(offsets), _SEED, setup.sizes)
    probes = int(_PROBES_A_SECOND * _PROBE_SECONDS)
    for probe in mix_requests(target, model, probes, _SEED, _PROBE):
        requests.append(LoadRequest(probe.message, label="probe"))
    offsets += [setup.seconds + index / _PROBES_A_SECOND for index in range(probes)]
    return LoadGenerator(target.server.port).run_open(requests, offsets), peak


def overload_figures(
    records: Sequence[StreamRecord], peak: Saturation, seconds: float
) -> list[BenchFigure]:
    """Figures of an overload that began with the first record's due time.

    Args:
        records: of all requests, probes among them.
        peak: of the same server before.
        seconds: length of the overload; the probes follow it.
    """
    probes = sorted((r for r in records if r.label == "probe"), key=lambda r: r.due)
    load = [r for r in records if r.label != "probe"]
    end = probes[0].due
    # What ends within the overload, its first fifth apart: the slots fill up then.
    begin = end - seconds * 0.8
    inside = [r for r in load if begin <= r.ended_at < end]
    goodput = count_tokens(inside) / (end - begin) / peak.tokens_per_second
    refused = [r for r in load if r.status == 429]
    broken = [r for r in load if not r.whole and r.status != 429]
    count = f"{len(load)} requests, {len(refused)} refused, {len(broken)} broken"
    figures = [
        BenchFigure.against_target(
            f"{_OVERLOADED}: goodput, share of the peak",
            goodput,
            "",
            LEAST_GOODPUT,
            better="higher",
            note=f"{count}; peak {peak.tokens_per_second:,.0f} tokens/s",
        ),
        BenchFigure.against_target(f"{_OVERLOADED}: broken answers", len(broken), "", 0),
    ]
    if refused:
        figures.append(_refusal_figure(refused))
    figures.append(
        BenchFigure.against_target(
            f"{_OVERLOADED}: recovered after",
            recovery_seconds(probes),
            "s",
            RECOVERED_SECONDS,
            note=f"from then on all first tokens within {FIRST_TOKEN_SECONDS * 1e3:.0f} ms",
        )
    )
    return figures


def _refusal_figure(refused: Sequence[StreamRecord]) -> BenchFigure:
    """Time from a request's due time to the head of its refusal."""
    waits = [(r.head_at - r.due) * 1e3 for r in refused]
    return BenchFigure.against_target(
        f"{_OVERLOADED}: time to a refusal, 99th percentile",
        float(np.quantile(waits, 0.99)),
        "ms",
        REFUSED_SECONDS * 1e3,
        note=f"median {np.median(waits):.1f}, largest {max(waits):.0f}",
    )


def recovery_seconds(probes: Sequence[StreamRecord]) -> float:
    """Time from the first probe to the first of those that were all answered at once to the end."""
    recovered = len(probes)
    while recovered and _is_prompt(probes[recovered - 1]):
        recovered -= 1
    last = min(recovered, len(probes) - 1)
    return probes[last].due - probes[0].due if recovered < len(probes) else float("inf")


def _is_prompt(record: StreamRecord) -> bool:
    return record.whole and record.first_event_seconds <= FIRST_TOKEN_SECONDS
