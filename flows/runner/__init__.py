"""Runners that execute or plan a flow, and the records, tables and display of a run."""
