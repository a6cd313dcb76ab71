"""What the mechanism's statistics name on models with a planted cause."""

from __future__ import annotations

import numpy as np

from support.planted_models import adding, harm_rates, planted, texts
from unharm.analysis.mechanism import name_directions
from unharm.training.steering.activations import Span, residual_means
from unharm.training.steering.shifts import held_out, shifts_along


def named_directions(seed: int, null: bool, level: float) -> tuple[int | None, list[int]]:
    """Return the direction that causes harm (None in a null model), and those that are named."""
    made = planted(seed, null)
    spans = [Span(ids) for ids in texts(seed)]
    base = held_out(residual_means(made.model, spans), made.directions)
    shifts = []
    for shift in made.shifts:
        handle = made.model.model.layers[0].register_forward_hook(adding(shift))
        shifts.append(shifts_along(base, residual_means(made.model, spans))[0].numpy())
        handle.remove()
    harm = harm_rates(made, texts(seed + 1), seed)
    (steps,) = name_directions(np.array(shifts), harm[:, None], made.clusters, level, seed)
    return made.cause, [s.direction for s in steps if s.named]
