"""``modelmill bench curate``: collecting and cleaning, beside the best tool for each part.

Everything runs on one core, ours and the peers' alike, on the same documents, in turn. A part that
lacks its reference data or its peer says so in its figure and demands nothing.
"""
