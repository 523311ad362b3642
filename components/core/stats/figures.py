"""Measured figures with 95 % intervals, and their file ``report.json``.

Bootstrap: Efron & Tibshirani 1993, chapter 13 (percentile). Proportions: Wilson 1927.
Everything is seeded, so equal measurements give equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json

REPORT_FILE = "report.json"
RESAMPLES = 2000
SEED = 0
Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


class Figure(BaseModel):
    """Measured value with its 95 % interval.

    Raises:
        DataError: a field is of another type, or no finite number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name of the measured quantity: bits_per_byte")
    value: float
    low: float = Field(description="lower end of the 95 % interval")
    high: float = Field(description="upper end of the 95 % interval")
    unit: str = Field(default="", description="bits/byte, %, points ...; empty for a plain ratio")
    n: int = Field(
        default=1, ge=0, description="number of pages, questions or pairs behind the figure"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            name = values.get("name", "") if isinstance(values, dict) else ""
            field = ".".join(str(part) for part in detail["loc"])
            raise DataError(
                f"figure {name}: {field}: given {detail['input']!r}: {detail['msg']}"
            ) from error


def exact_figure(name: str, value: float, unit: str = "", n: int = 1) -> Figure:
    """Figure that was counted, not sampled: its interval is the value itself.

    Args:
        name: name of the figure.
        value: the count.
        unit: unit of the value; empty for a plain ratio.
        n: items that it rests on.
    """
    return Figure(name=name, value=value, low=value, high=value, unit=unit, n=n)


def write_report(folder: Path, figures: Sequence[Figure], **extra: Any) -> None:
    """Write ``report.json``: the figures in the order given, and anything else JSON can hold.

    Args:
        folder: folder of the report.
        figures: figures with distinct names.
        extra: further fields.

    Raises:
        ValueError: two figures share a name, or ``extra`` holds a NaN.
    """
    names = [figure.name for figure in figures]
    if len(set(names)) != len(names):
        raise ValueError(f"figures must have names of their own, not {names}")
    content = {"figures": [figure.model_dump(mode="json") for figure in figures], **extra}
    write_atomically(folder / REPORT_FILE, canonical_json(content))


def read_report(folder: Path) -> dict[str, Figure]:
    """Read a report: name -> figure, in the order they were written.

    Raises:
        DataError: there is no report, or it is damaged.
    """
    content = read_report_content(folder)
    try:
        figures = [Figure(**fields) for fields in content["figures"]]
    except (KeyError, TypeError, DataError) as error:
        raise DataError(f"{folder.name}: {REPORT_FILE} is not a report: {error}") from error
    return {figure.name: figure for figure in figures}


def read_report_content(folder: Path) -> dict[str, Any]:
    """Read the whole ``report.json``, its figures as plain mappings.

    Raises:
        DataError: there is no report, or it is no JSON object.
    """
    try:
        content = json.loads((folder / REPORT_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder.name}: {REPORT_FILE} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{folder.name}: {REPORT_FILE} is not a report")
    return content


def mean_interval(
    values: ArrayLike,
    *,
    name: str = "mean",
    unit: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Figure:
    """Mean of independent values with its percentile-bootstrap interval.

    Args:
        values: [n].
        name: name of the figure.
        unit: unit of the values.
        resamples: bootstrap draws.
        seed: seed of the draws.

    Raises:
        ValueError: there is no value.
    """
    sample = _as_sample(values)
    low, high = _bootstrap_interval(
        lambda rows: sample[rows].mean(-1), len(sample), resamples, seed
    )
    return Figure(
        name=name, value=float(sample.mean()), low=low, high=high, unit=unit, n=len(sample)
    )


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    name: str = "ratio",
    unit: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Figure:
    """sum(numerators) / sum(denominators), resampling whole units (bits and bytes of pages).

    Args:
        numerators: [n].
        denominators: [n], of a positive sum.
        name: name of the figure.
        unit: unit of the ratio.
        resamples: bootstrap draws.
        seed: seed of the draws.

    Raises:
        ValueError: the lengths differ, or the denominators sum to nothing.
    """
    above, below = _as_sample(numerators), _as_sample(denominators)
    if above.shape != below.shape or below.sum() <= 0:
        raise ValueError("a ratio needs as many numerators as denominators, of a positive sum")

    def ratio(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(above[rows].sum(-1) / np.maximum(below[rows].sum(-1), 1e-300))

    low, high = _bootstrap_interval(ratio, len(above), resamples, seed)
    value = float(above.sum() / below.sum())
    return Figure(name=name, value=value, low=low, high=high, unit=unit, n=len(above))


def correlation_interval(
    products: ArrayLike,
    left_squares: ArrayLike,
    right_squares: ArrayLike,
    *,
    name: str = "correlation",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Figure:
    """Pearson's r from sums over whole units, which are resampled; 0 where a side never varies.

    Args:
        products: a unit's sum of x * y, both centred.
        left_squares: its sum of x squared.
        right_squares: its sum of y squared.
        name: name of the figure.
        resamples: bootstrap draws.
        seed: seed of the draws.

    Raises:
        ValueError: the lengths differ, or there is no unit.
    """
    columns = [_as_sample(values) for values in (products, left_squares, right_squares)]
    if len({len(column) for column in columns}) > 1:
        raise ValueError("a correlation needs as many products as squares of either side")

    def correlation(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        xy, xx, yy = (column[rows].sum(-1) for column in columns)
        return np.asarray(xy / np.maximum(np.sqrt(xx * yy), 1e-300))

    low, high = _bootstrap_interval(correlation, len(columns[0]), resamples, seed)
    value = float(correlation(np.arange(len(columns[0]))))
    return Figure(name=name, value=value, low=low, high=high, n=len(columns[0]))


def proportion_interval(
    successes: int, n: int, *, name: str = "proportion", unit: str = ""
) -> Figure:
    """successes / n with Wilson's score interval, which stays inside [0, 1] for any n.

    Args:
        successes: 0 to n.
        n: trials, at least one.
        name: name of the figure.
        unit: unit of the share; empty for a plain ratio.

    Raises:
        ValueError: n is not positive, or successes are not within 0 and n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion")
    share, square = successes / n, Z_95 * Z_95
    centre = (share + square / (2 * n)) / (1 + square / n)
    reach = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    low = 0.0 if successes == 0 else centre - reach
    high = 1.0 if successes == n else centre + reach
    return Figure(name=name, value=share, low=low, high=high, unit=unit, n=n)


def _as_sample(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(sample):
        raise ValueError("an interval needs at least one value")
    return sample


def _bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    n: int,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of ``statistic`` over rows drawn with replacement."""
    generator = np.random.default_rng(seed)
    per_draw = max(1, 4_000_000 // n)  # bounds the memory of one draw of row numbers
    statistics = [
        statistic(generator.integers(0, n, size=(min(per_draw, resamples - done), n)))
        for done in range(0, resamples, per_draw)
    ]
    low, high = np.quantile(np.concatenate(statistics), [0.025, 0.975])
    return float(low), float(high)
