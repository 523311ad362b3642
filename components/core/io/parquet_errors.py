"""Errors of reading a Parquet file that somebody else wrote."""

from __future__ import annotations

import pyarrow as pa

PARQUET_READ_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, NotImplementedError)
"""Damage shows as any of these: Arrow raises the last for encodings and types that it lacks."""
