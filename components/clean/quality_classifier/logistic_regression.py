"""Logistic regression on sparse and dense features by a truncated Newton method.

Minimises the mean log loss plus ``ridge`` / 2 times the squared weights; the constant is free. The
Newton step comes from conjugate gradients and is halved until the loss falls enough (Lin, Weng &
Keerthi 2008, with a line search in place of the trust region). Sums run in one order, so equal
input gives equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.text.char_ngrams import SparseRows

Vector = NDArray[np.float64]
_MAX_NEWTON_STEPS, _MAX_CG_STEPS = 60, 40
_TOLERANCE = 1e-6
_ARMIJO = 1e-4


@dataclass(frozen=True)
class Features:
    """Sparse and dense columns of the same rows; a column of ones is added."""

    sparse: SparseRows
    dense: NDArray[np.float64]
    """[rows, columns]"""

    @property
    def width(self) -> int:
        return self.sparse.width + int(self.dense.shape[1]) + 1

    def multiply(self, weights: Vector) -> Vector:
        """[rows]"""
        at, end = self.sparse.width, self.width - 1
        linear = self.sparse.multiply(weights[:at]) + self.dense @ weights[at:end] + weights[end]
        return np.asarray(linear, dtype=np.float64)

    def multiply_transposed(self, column: Vector) -> Vector:
        """[width]"""
        sums = (self.sparse.multiply_transposed(column), self.dense.T @ column, [column.sum()])
        return np.concatenate(sums)


def predict_probabilities(features: Features, weights: Vector) -> Vector:
    """Probability of the positive label: [rows]."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * features.multiply(weights))), dtype=np.float64)


def fit_logistic(features: Features, positive: NDArray[np.bool_], ridge: float) -> Vector:
    """Fit the weights, the constant last: [width].

    Args:
        features: Of the examples.
        positive: [rows] which have the positive label.
        ridge: Penalty on the squared weights; the constant is free.
    """
    signs = np.where(positive, 1.0, -1.0)
    free = np.full(features.width, ridge)
    free[-1] = 0.0
    weights = np.zeros(features.width)

    def loss(weights_tried: Vector) -> float:
        margins = signs * features.multiply(weights_tried)
        return float(np.logaddexp(0, -margins).mean() + 0.5 * (free * weights_tried**2).sum())

    current_loss = loss(weights)
    for _ in range(_MAX_NEWTON_STEPS):
        chance = predict_probabilities(features, weights)
        slope = features.multiply_transposed(chance - positive) / len(signs) + free * weights
        if np.abs(slope).max() < _TOLERANCE:
            break
        step = _newton_step(features, chance * (1 - chance) / len(signs), free, slope)
        size, descent = 1.0, float(slope @ step)
        while (
            loss(weights + size * step) > current_loss + _ARMIJO * size * descent
            and size > _TOLERANCE
        ):
            size /= 2
        weights = weights + size * step
        current_loss = loss(weights)
    return weights


def _newton_step(features: Features, curvature: Vector, free: Vector, slope: Vector) -> Vector:
    """Conjugate gradients on the Hessian, to a tenth of the slope."""
    step, left = np.zeros(len(slope)), -slope
    direction, square = left.copy(), float(left @ left)
    enough = square * 1e-2
    for _ in range(_MAX_CG_STEPS):
        image = (
            features.multiply_transposed(curvature * features.multiply(direction))
            + free * direction
        )
        along = square / max(float(direction @ image), 1e-300)
        step += along * direction
        left -= along * image
        following = float(left @ left)
        if following <= enough:
            break
        direction = left + following / square * direction
        square = following
    return step
