"""Logistic regression with an L2 penalty, by Newton's method.

A few hundred weights and a few thousand rows: the Hessian is small, ten steps reach the optimum to the last digits, and
there is no step size or tolerance to choose. That is less to keep than a library would be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS = 50
_GRADIENT = 1e-5  # of its largest part: at the optimum; float64 can still tell a better loss there


class NotConvergedError(Exception):
    """Newton's method found no optimum: the features are not numbers, or the penalty is 0 and the classes separate."""


def fit(
    features: Floats, targets: Floats, penalty: float, shares: Floats | None = None, start: Floats | None = None
) -> Floats:
    """Return the weights [features + 1], the intercept last, that minimise log loss + penalty / 2 * |weights|².

    `features` is [rows, features]; `targets` is [rows], probabilities from 0 to 1. The log loss is summed over rows,
    each times its share [rows], 1 by default; the intercept is not penalised. `start` is where to begin, for example
    the weights of another penalty.
    """
    rows = with_intercept(features)
    problem = _Problem(rows, targets, np.ones(len(rows)) if shares is None else shares, np.full(rows.shape[1], penalty))
    problem.ridge[-1] = 0
    weights = np.zeros(rows.shape[1]) if start is None else start
    loss = problem.loss(weights)
    for _ in range(_STEPS):
        gradient, curvature = problem.derivatives(weights)
        if np.abs(gradient).max() < _GRADIENT:
            return weights
        weights, lower = problem.descend(weights, np.asarray(np.linalg.solve(curvature, gradient), np.float64), loss)
        if not lower < loss:
            break
        loss = lower
    raise NotConvergedError(f"no optimum within {_STEPS} steps")


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits))


def log_loss(logits: Floats, targets: Floats, shares: Floats | float = 1.0) -> float:
    """Return the sum over rows of -log(probability of the target), each times its share."""
    return float((shares * (np.logaddexp(0, logits) - targets * logits)).sum())


def with_intercept(features: Floats) -> Floats:
    """Return the features [rows, features + 1] with a column of ones."""
    return np.hstack([features, np.ones((len(features), 1))])


@dataclass(frozen=True)
class _Problem:
    rows: Floats  # [rows, features + 1]
    targets: Floats  # [rows]
    shares: Floats  # [rows]
    ridge: Floats  # [features + 1]: the penalty of each weight

    def loss(self, weights: Floats) -> float:
        logits = self.rows @ weights  # [rows]
        return log_loss(logits, self.targets, self.shares) + float((self.ridge * weights**2).sum()) / 2

    def derivatives(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return gradient [features + 1] and Hessian [features + 1, features + 1] of the loss."""
        probabilities = sigmoid(self.rows @ weights)  # [rows]
        gradient = self.rows.T @ (self.shares * (probabilities - self.targets)) + self.ridge * weights
        curvatures = self.shares * probabilities * (1 - probabilities)  # [rows]
        return gradient, (self.rows * curvatures[:, None]).T @ self.rows + np.diag(self.ridge)

    def descend(self, weights: Floats, step: Floats, loss: float) -> tuple[Floats, float]:
        """Take the longest of ever shorter steps that lowers the loss; if none does, none."""
        for halvings in range(30):
            candidate = weights - step / 2**halvings
            lower = self.loss(candidate)
            if lower < loss:
                return candidate, lower
        return weights, loss
