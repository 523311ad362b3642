"""Lineage of pages and models: trace, orders to forget, purge, search for remaining copies."""
