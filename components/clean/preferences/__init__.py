"""Judged answers from users' files: pairs of a better and a worse one, and rated ones."""
