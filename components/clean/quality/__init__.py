"""Quality scorer: the statistics of Gopher, C4 and FineWeb."""
