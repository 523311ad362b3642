"""Report of a benchmark: the machine, and the figures with their targets and peers.

A report is one JSON object; ``write_page`` renders ``docs/benchmarks.md`` from such objects, so no
figure on it is typed by hand.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from components.core.errors import ConfigError
from components.core.io.atomic_write import write_atomically
from components.core.process.usable_cores import usable_cores
from components.core.thread_settings import MEASURE_THREADS, thread_count
from components.core.training_speed import processor_name

HEAD = """# Benchmarks

Written by `modelmill bench --write docs/benchmarks.md FILE…` from the reports that
`modelmill bench NAME --json` prints; not edited by hand. Medians; the peers did the same work in
the same run, in turn. Ratio: how many times better than the peer. "—": not measured, or no bound.
`make peers` installs the peers in `.peers`, where `modelmill bench` finds them (other places:
`MODELMILL_PEERS_PYTHON`, `MODELMILL_LLAMA_NODE`); without it, figures stand without a peer.
"""


Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class BenchFigure:
    """One measured value with its target or peer, and the verdict on it."""

    name: str
    value: float | None
    unit: str
    target: float | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    holds: bool | None = None
    """None without a target, or where the peer or the data is not available."""
    better: Better = "lower"
    note: str = ""
    """Confidence interval, sample size or the reason for a missing value; shown after the value."""

    @classmethod
    def against_target(
        cls,
        name: str,
        value: float,
        unit: str,
        target: float,
        *,
        better: Better = "lower",
        note: str = "",
    ) -> BenchFigure:
        """Figure that must be at most ``target``, or at least, where higher is better.

        Args:
            name: row of the report.
            value: the measurement.
            unit: unit of value and target; empty for a plain number.
            target: the bound, inclusive.
            better: direction of the bound.
            note: shown after the value.
        """
        value = float(value)  # a numpy scalar is not JSON-serializable
        holds = value <= target if better == "lower" else value >= target
        return cls(name, value, unit, target=target, holds=holds, better=better, note=note)

    @classmethod
    def beside_peer(
        cls,
        name: str,
        value: float,
        unit: str,
        peer: str,
        peer_value: float | None,
        must_win: bool,
        *,
        better: Better = "lower",
        note: str = "",
    ) -> BenchFigure:
        """Figure beside the same measurement of a peer.

        Args:
            name: row of the report.
            value: our measurement.
            unit: unit of both values.
            peer: name of the other tool.
            peer_value: its measurement; None where it is not installed.
            must_win: the figure fails where ours is worse than the peer's.
            better: direction of the comparison.
            note: shown after the value.
        """
        if peer_value is None:
            return cls(name, value, unit, peer=peer, better=better, note=note)
        value, peer_value = float(value), float(peer_value)
        lower = better == "lower"
        won = value <= peer_value if lower else value >= peer_value
        over, under = (peer_value, value) if lower else (value, peer_value)
        return cls(
            name,
            value,
            unit,
            peer=peer,
            peer_value=peer_value,
            ratio=over / under if under else None,
            holds=won if must_win else None,
            better=better,
            note=note,
        )

    @classmethod
    def unavailable(cls, name: str, unit: str, reason: str) -> BenchFigure:
        """Figure without a value.

        Args:
            name: row of the report.
            unit: unit it would have.
            reason: the missing data, peer or device.
        """
        return cls(name, None, unit, note=reason)


@dataclass(frozen=True)
class BenchReport:
    """Machine and figures of one benchmark, as printed by ``--json``."""

    bench: str
    machine: Mapping[str, Any]
    figures: Sequence[BenchFigure]

    @property
    def failure(self) -> str:
        """One line that names the figures outside their bounds; empty without any."""
        failing = [figure.name for figure in self.figures if figure.holds is False]
        return f"bench {self.bench}: outside its bounds: {', '.join(failing)}" if failing else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "machine": dict(self.machine),
            "figures": [asdict(figure) for figure in self.figures],
        }


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, interpreter and load average of this machine."""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "threads": thread_count() or MEASURE_THREADS,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def format_rows(figures: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Cells of ``COLUMNS`` as text, a row a figure."""
    return [
        (
            figure["name"],
            " ".join(filter(None, (_number(figure["value"], figure["unit"]), figure["note"]))),
            _target(figure),
            figure["peer"] or "—",
            _number(figure["peer_value"], figure["unit"]),
            _number(figure["ratio"], ""),
            {True: "yes", False: "NO", None: "—"}[figure["holds"]],
        )
        for figure in figures
    ]


COLUMNS = ("figure", "Modelmill", "target", "peer", "its value", "ratio", "holds")


def _target(figure: Mapping[str, Any]) -> str:
    if figure["target"] is None:
        return "—"
    bound = "at least" if figure["better"] == "higher" else "at most"
    return f"{bound} {_number(figure['target'], figure['unit'])}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f} {unit}".strip() if abs(value) >= 1000 else f"{value:.3g} {unit}".strip()


def write_page(path: Path, report_files: Sequence[Path]) -> int:
    """Render ``docs/benchmarks.md`` from report files; returns the number of reports on it.

    Raises:
        ConfigError: a file cannot be read or holds no report of a benchmark.
    """
    parts = [HEAD]
    for source in report_files:
        try:
            report = json.loads(source.read_bytes())
            machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
            table = format_rows(report["figures"])
            parts.append(f"## {report['bench']}\n\n{machine}\n\n{_markdown(table)}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{source}: is not a report of `modelmill bench --json`: {error}"
            ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n".join(parts)).encode())
    return len(report_files)


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
