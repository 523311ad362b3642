"""Licence scorer: signs of a licence that a page shows."""
