"""Prefect adapter: runner, reporter, approvals, recovery, history and server address."""
