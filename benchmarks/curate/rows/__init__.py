"""Rows of files as people have them, beside pandas and datatrove's readers."""
