"""Config base of a measuring stage: it names the figures of the stage's report.

Gates and comparisons name a figure as ``REPORT.FIGURE``. A run's config finds both by itself: each
of its fields that is a ``ReportConfig`` is a report of the field's name, so a new report is entered
in no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from components.core.config.stage_config import StageConfig
from components.core.stats.figures import Figure, write_report


class ReportConfig(StageConfig):
    """Base of the config of every stage whose figures a gate may look at."""

    report: ClassVar[str] = ""
    """Name of the report; empty for that of the run's field which holds the config."""

    figures: ClassVar[tuple[str, ...]] = ()
    """Names of the figures that the stage may measure; ``*`` stands for any text."""

    def figure_names(self) -> tuple[str, ...]:
        """Names of the figures that the stage may measure with this config."""
        return self.figures

    def write_report(self, folder: Path, figures: Sequence[Figure], **extra: Any) -> None:
        """Write ``report.json``, which holds declared figures only.

        Args:
            folder: folder of the report.
            figures: figures in the order shown; some of the declared ones may be absent.
            extra: anything else that JSON can hold.

        Raises:
            ValueError: a figure is not declared, two share a name, or ``extra`` holds a NaN.
        """
        declared = self.figure_names()
        for figure in figures:
            if not any(fnmatchcase(figure.name, name) for name in declared):
                raise ValueError(
                    f"{type(self).__name__}.figures does not declare {figure.name!r}; "
                    f"declared: {', '.join(declared)}"
                )
        write_report(folder, figures, **extra)
