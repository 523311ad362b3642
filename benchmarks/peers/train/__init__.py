"""Peers of ``bench train``, a program each."""
