"""Hot loops over Arrow's string buffers, compiled by numba: import them inside functions.

The compiler takes half a second to import, and a run that finds everything in the store needs none
of it.
"""
