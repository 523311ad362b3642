"""Measured figures with intervals, reports made of them, and paired comparisons."""
