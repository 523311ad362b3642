"""Exception tree of the product.

    MillError
    ├── ConfigError      the user's file or flag is wrong               exit 2
    ├── DataError        what was read is wrong; names shard and row    exit 1
    ├── TrainingDiverged a loss is no number or rose for good           exit 1
    ├── GateFailed       a gate said no; names gate, figure and bound   exit 1
    ├── NeedsApproval    a person has the last word (components/publish/promotion/approvals.py)
    └── TransientError   may pass when tried again: the only one that is retried

A message is one line that names the thing and what to do about it. Internal invariants are
asserts.
"""

from __future__ import annotations

from components.core.log import mask_secrets


class MillError(Exception):
    """Base of all errors that a user sees; ``str(error)`` is the line shown."""

    exit_code = 1


class ConfigError(MillError):
    """Invalid configuration: a file, a flag or an environment variable."""

    exit_code = 2


class DataError(MillError):
    """Unusable input data, beyond what quarantine absorbs."""


class TrainingDiverged(MillError):
    """Training that diverged more often than allowed, with no earlier state to continue from."""


class GateFailed(MillError):
    """Refusal by a gate; the message names the gate, the figure and its bound."""


class TransientError(MillError):
    """Temporary failure of something outside: a timeout, a lock, a 503."""


def error_line(error: object) -> str:
    """Message of an error in one line, secrets masked; its class where it has no message."""
    return mask_secrets(" ".join(str(error).split())) or type(error).__name__


def typed_error_line(error: BaseException) -> str:
    """Class and message of an error in one line, for errors such as ``KeyError``."""
    kind, line = type(error).__name__, error_line(error)
    return kind if line == kind else f"{kind}: {line}"
