"""Constrained answers: JSON schemas, regular expressions, grammars, choices, calls of tools."""
