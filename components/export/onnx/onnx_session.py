"""Sessions of onnxruntime on the CPU, with the threads and the spinning that the user allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.errors import DataError, error_line
from components.core.settings import Spin, spin_setting

SPINNING: dict[Spin, dict[str, str]] = {
    "none": {"session.intra_op.allow_spinning": "0"},
    "short": {"session.intra_op.spin_duration_us": "20"},
    "long": {},
}
"""Options of onnxruntime. Threads that spin between two calls take the cores from the program that
serves: beside other work 16 rows took 22 ms a step as it spins by itself, 12 to 15 with 20 us."""


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open an onnxruntime session on the CPU; its log is silent, errors are exceptions.

    Raises:
        DataError: the file is missing or cannot be loaded.
    """
    import onnxruntime

    if not path.is_file():
        raise DataError(f"{path.name}: there is no such graph in {path.parent.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4
    for name, value in SPINNING[spin_setting()].items():
        options.add_session_config_entry(name, value)
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        reason = error_line(error)[:300]
        raise DataError(f"{path.name}: onnxruntime cannot load it: {reason}") from error
