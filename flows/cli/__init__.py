"""Command line ``modelmill``: one module for each group of commands."""
