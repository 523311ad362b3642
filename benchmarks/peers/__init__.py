"""Programs that do the same work on other tools; only ``own_chain`` imports Modelmill.

Each runs in the peers' own interpreter. The chains are called as

    python PROGRAM FOLDER STEPS        cold in an empty folder, from the cache after that

and each of their steps adds one to the number of the step before it; the last must be STEPS.
"""
