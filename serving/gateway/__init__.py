"""Gateway of an endpoint: server processes, reverse proxy, manager of the served model."""
