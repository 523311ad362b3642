"""Bounds of one HTTP request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of one request: decompressed bytes, and seconds to connect, between reads, in all."""

    max_bytes: int
    connect_seconds: float
    read_seconds: float
    total_seconds: float
