"""``modelmill bench train``: loss and speed of training, beside common recipes and trainers.

Everything runs on all cores, ours and the peers' alike, in turn, through the stage that a run calls
(``components/train/pretrain.py``). A part whose data, peer or device is missing reports
the reason in its figure and cannot fail.
"""
