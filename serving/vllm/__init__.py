"""Adapter of vLLM: its server as a child process, and the endpoint in front of it."""
