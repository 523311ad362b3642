"""Hot loops over Arrow's string buffers, compiled by numba.

Import them inside functions: the compiler takes half a second to import, and a run that finds every
artifact in the store needs none of it.
"""
