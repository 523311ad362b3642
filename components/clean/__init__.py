"""Cleaning: scorers measure documents side by side, ``select`` decides by all of them at once."""
