"""Principles that answers are judged by: checks, their config and its trial."""
