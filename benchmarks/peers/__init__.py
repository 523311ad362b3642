"""The same chain on each tool: a program a tool, run by its own interpreter, importing ours not.

    python PROGRAM FOLDER STEPS        once: cold in an empty folder, from the cache after that

Each step adds one to the number it is given; the last one must be STEPS.
"""
