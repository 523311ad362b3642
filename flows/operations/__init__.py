"""Operation of a workspace: the running platform, its diagnosis, and retention of its data."""
