"""Retention: garbage collection, orders to forget pages, and records of interrupted runs."""
