"""Servers and engines that are measured, over one model of random weights."""
