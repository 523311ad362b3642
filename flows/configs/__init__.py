"""Configs of runs: the run's fields, presets, gates, YAML files and checks before a run."""
