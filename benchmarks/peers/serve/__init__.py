"""Peers of ``modelmill bench serve``: the same model in other engines, served or decoded."""
