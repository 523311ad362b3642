"""``modelmill bench train``: loss for the time, beside the recipes and trainers that others use.

Everything runs on all cores, ours and the peers' alike, in turn, through the stage that a run calls
(``components/train/pretrain.py``). A part that lacks its data, its peer or its processor says so
in its figure and demands nothing.
"""
