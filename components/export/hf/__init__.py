"""Transformers folders: written from a checkpoint, and read as one."""
