"""Near-duplicate detection: signature speed, precision and recall, scaling to a million."""
