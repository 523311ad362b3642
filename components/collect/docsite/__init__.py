"""Embedded documentation site of installed Python packages, the source of runs without a crawl."""
