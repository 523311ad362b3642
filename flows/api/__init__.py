"""Parts of the Python API that ``modelmill.py`` calls: the command line's runs, store and models,
given and answered as objects.
"""
