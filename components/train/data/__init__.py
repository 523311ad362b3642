"""Training data: packing, deterministic order, mixtures, micro-batches and their loader."""
