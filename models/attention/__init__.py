"""Attention of the decoder: rotary positions, masks, and kernels for blocks."""
