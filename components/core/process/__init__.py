"""Processes of this machine: shutdown, process trees, ports, cores and threads."""
