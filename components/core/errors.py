"""The one exception tree.

    MillError
    ├── ConfigError      the user's file or flag is wrong               exit 2
    ├── DataError        what was read is wrong; names shard and row    exit 1
    ├── TrainingDiverged a loss is no number or rose for good           exit 1
    ├── GateFailed       a gate said no; names gate, figure and bound   exit 1
    ├── NeedsApproval    a person has the last word (components/publish/promotion/approvals.py)
    └── TransientError   may pass when tried again: the only one that is retried

A message is one line that names the thing and the mend. Invariants of our own are asserts.
"""

from __future__ import annotations


class MillError(Exception):
    """Anything Modelmill refuses or gives up on. ``str(error)`` is fit for a user."""

    exit_code = 1


class ConfigError(MillError):
    """The user's configuration cannot be run as written."""

    exit_code = 2


class DataError(MillError):
    """Input data is unusable beyond what quarantine absorbs."""


class TrainingDiverged(MillError):
    """A training broke more often than it may, and no state before it leads on."""


class GateFailed(MillError):
    """A gate refused; the message names the gate, the figure and its bound."""


class TransientError(MillError):
    """A failure of the outside world that may pass: a timeout, a lock, a 503."""
