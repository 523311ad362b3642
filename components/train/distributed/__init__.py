"""Multi-process training: launchers, collectives, forms of parallelism, sharded states."""
