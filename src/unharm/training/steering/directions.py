"""Make one direction of the residual stream per value and layer from contrasting texts.

Value vectors for Schwartz's values: Jin et al., ConVA (ACL 2025), by probes; differences of means are the
contrastive activation addition of Rimsky et al. (2024).
"""

from __future__ import annotations

import numpy as np
import torch

LEAST = 2
"""Fewest texts on each side of a contrast."""


def mean_difference(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Return the difference of the means of two sets of activations [texts, layers, hidden], as
    [layers, hidden]."""
    return high.mean(dim=0) - low.mean(dim=0)


def probe_direction(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Return the normal of a logistic separation of two sets [texts, layers, hidden], per layer.

    Activations are standardised, and the penalty is weak (C = 1); the normal is given in the units of the
    activations. Its length has no meaning.
    """
    from sklearn.linear_model import LogisticRegression

    activations = torch.cat([high, low]).double().numpy()
    labels = np.array([1] * len(high) + [0] * len(low))
    normals = []
    for layer in range(activations.shape[1]):
        x = activations[:, layer]
        spread = x.std(axis=0)
        spread[spread < 1e-9] = 1.0
        model = LogisticRegression(class_weight="balanced", max_iter=500)
        model.fit((x - x.mean(axis=0)) / spread, labels)
        normals.append(model.coef_[0] / spread)
    return torch.from_numpy(np.array(normals)).float()


def unit(directions: torch.Tensor) -> torch.Tensor:
    """Return directions of length 1 along the last dimension; zeros stay zeros."""
    length = directions.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-12, directions / length.clamp_min(1e-12), torch.zeros_like(directions))


def profile_weights(importances: tuple[float, ...]) -> torch.Tensor:
    """Return the weight of each value [values]: importances less their mean, in fifths of a point.

    A value alone at 6 among nine at 1 weighs 0.9; a profile of equal importances has no direction.
    """
    weights = torch.tensor(importances)
    return (weights - weights.mean()) / 5


def profile_direction(
    vectors: torch.Tensor, scale: torch.Tensor, importances: tuple[float, ...]
) -> torch.Tensor:
    """Return the direction of a profile at strength 1 [layers, hidden].

    It is the sum of the values' unit vectors [values, layers, hidden], weighted by the profile and
    multiplied by the mean length of the residual stream at each layer, `scale` [layers].
    """
    mixed = torch.einsum("v,vlh->lh", profile_weights(importances), vectors)
    return mixed * scale[:, None]


def at_layer(direction: torch.Tensor, layer: int, strength: float) -> torch.Tensor:
    """Return a shift [layers, hidden] that is `strength` times the direction at one layer, else zero."""
    shift = torch.zeros_like(direction)
    shift[layer] = strength * direction[layer]
    return shift
