"""Benchmarks: measured figures beside the peers, in one run, on the same work."""
