"""Floating-point operations of a training token: 6 N for the matrices, 12 L H Q T for attention.

Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, appendix B), the count of most published MFUs: 2 N
multiply-adds forward and 4 N backward for the N weights that multiply, and for L layers with H
heads of width Q over T positions the two products with the scores, counted whole, though half of
them lie behind the causal mask. Weights that are only looked up (an untied table of embeddings) and
experts that a token is not sent to multiply nothing.
"""

from __future__ import annotations

from models.shape import DecoderShape


def flops_per_token(shape: DecoderShape, sequence_length: int) -> float:
    """Operations of one target in a sequence of ``sequence_length``, forward and backward."""
    multiplying = shape.active_parameters
    if not shape.tied:
        multiplying -= shape.vocabulary * shape.width
    attention = 12 * shape.layers * shape.heads * shape.head_width * sequence_length
    return 6.0 * multiplying + attention
