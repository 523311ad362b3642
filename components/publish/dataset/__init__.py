"""Versions of the selected corpus in DVC: push, drift, collection and deletion."""
