"""Housekeeping: what a collection deletes and what it keeps."""
