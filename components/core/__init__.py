"""Plumbing that all stages share: store, configuration, processes, statistics, files."""
