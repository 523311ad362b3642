"""``modelmill bench curate``: collecting and cleaning, beside the best tool for each part.

Everything runs on one core, ours and the peers' alike, on the same documents, in turn. A part whose
reference data or peer is missing reports the reason in its figure and cannot fail.
"""
