"""Peers of ``bench curate``, a program each."""
