"""Peers of ``bench orchestrate``, a program each."""
