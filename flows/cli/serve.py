"""What runs on this machine: ``serve``."""

from __future__ import annotations
