"""Tests of `unharm.training.steering`: directions, choice, and reading of activations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.prompting.compose import PLAIN
from unharm.prompting.pack import load_pack
from unharm.training.steering.activations import Span, residual_means
from unharm.training.steering.contrasts import Wording, in_context_pair
from unharm.training.steering.directions import (
    at_layer,
    mean_difference,
    probe_direction,
    profile_direction,
    profile_weights,
    unit,
)
from unharm.training.steering.selection import (
    Candidate,
    alignment_of,
    choose,
    expected_rating,
    layers_to_try,
    spread_over,
    surprise,
)


@pytest.fixture(scope="module")
def base(tiny_base: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_base).eval(), AutoTokenizer.from_pretrained(tiny_base)


def test_residual_means_are_the_hidden_states_of_transformers(base: tuple[Any, Any]) -> None:
    """Texts of several lengths in one batch, each over the tokens from its start on."""
    model, tokenizer = base
    texts = ["The baker", "On the bus an old man told everyone about it", "A"]
    spans = [Span(tokenizer(t)["input_ids"], start) for t, start in zip(texts, (0, 3, 0), strict=True)]
    means = residual_means(model, spans)
    outputs: list[torch.Tensor] = []
    for span, mean in zip(spans, means, strict=True):
        outputs.clear()
        handles = [
            layer.register_forward_hook(
                lambda _m, _i, o: outputs.append(o[0] if isinstance(o, tuple) else o)
            )
            for layer in model.model.layers
        ]
        with torch.inference_mode():
            model(torch.tensor([list(span.ids)]))
        for handle in handles:
            handle.remove()
        plain = torch.stack([o[0, span.start :].mean(dim=0) for o in outputs])
        torch.testing.assert_close(mean, plain, rtol=1e-4, atol=1e-5)


def test_a_statement_is_read_over_its_answer(base: tuple[Any, Any]) -> None:
    pack = load_pack("toy")
    argument = Argument("1", "We should plant trees", "in favor of", "trees give shade", ("universalism",))
    span = Wording(pack, base[1], "base", PLAIN).said(argument)
    prompt, answer = pack.ag(argument, True)
    assert base[1].decode(span.ids[span.start :]).strip() == answer.strip()
    assert base[1].decode(span.ids[: span.start]).strip() == prompt.strip()


def test_a_planted_direction_comes_back() -> None:
    draw = torch.Generator().manual_seed(1)
    planted = unit(torch.randn(2, 16, generator=draw))
    low = torch.randn(200, 2, 16, generator=draw)
    high = torch.randn(200, 2, 16, generator=draw) + 3 * planted
    for make in (mean_difference, probe_direction):
        found = unit(make(high, low))
        assert ((found * planted).sum(dim=-1) > 0.85).all()


def test_a_profile_is_the_weighted_sum_of_unit_vectors() -> None:
    vectors = torch.eye(10)[:, None, :]  # one direction per value, one layer
    importances = tuple(6.0 if v == "power" else 1.0 for v in VALUES)
    weights = profile_weights(importances)
    assert float(weights[VALUES.index("power")]) == pytest.approx(0.9)
    direction = profile_direction(vectors, torch.tensor([2.0]), importances)
    torch.testing.assert_close(direction[0], 2 * weights)
    shift = at_layer(direction.expand(3, 10), 1, 0.5)
    assert float(shift[0].abs().sum() + shift[2].abs().sum()) == 0.0
    torch.testing.assert_close(shift[1], weights)


@given(st.floats(1, 6))
def test_a_flat_profile_has_no_direction(level: float) -> None:
    assert float(profile_weights((level,) * 10).abs().max()) < 1e-6


def test_an_in_context_pair_differs_in_one_value() -> None:
    high, low = in_context_pair(load_pack("default"), "power")
    lines = [(a, b) for a, b in zip(high.splitlines(), low.splitlines(), strict=True) if a != b]
    assert len(lines) == 1
    assert "power" in lines[0][0].lower()


def test_alignment_is_the_centred_correlation_of_expected_ratings() -> None:
    profile = Profile("p", tuple(6.0 if v == "power" else 1.0 for v in VALUES))
    statements = [Argument(v, "", "in favor of", "", (v,)) for v in ("power", "security", "tradition")]
    ratings = [(0, 0, 0, 0, 0, 0.5), (0.25, 0.25, 0, 0, 0, 0), (0, 0.3, 0, 0, 0, 0)]
    assert expected_rating(ratings[1]) == pytest.approx(1.5)
    assert alignment_of(ratings, statements, profile) == pytest.approx(0.9948, abs=1e-3)
    assert math.isnan(alignment_of(ratings[:2], statements[:2], profile))
    assert alignment_of([(1.0, 0, 0, 0, 0, 0)] * 3, statements, profile) == 0.0


def test_the_choice_is_the_best_within_the_bound_and_the_gentlest_of_equals() -> None:
    tried = [
        Candidate(0, 0.2, 0.5, 1.1, True),
        Candidate(0, 0.4, 0.5, 1.1, True),
        Candidate(1, 0.8, 0.9, 4.0, False),
        Candidate(2, 0.1, math.nan, 1.0, True),
    ]
    assert choose(tried) == tried[0]
    assert choose(tried[2:3]) == tried[2]
    assert choose([Candidate(0, 0.2, 0.1, 9.0, False), tried[2]]) == tried[2]


def test_helpers_of_the_choice() -> None:
    assert layers_to_try("auto", 30) == [7, 15, 22]
    assert layers_to_try("auto", 3) == [0, 1, 2]
    assert layers_to_try([1, 40], 30) == [1]
    assert surprise([math.exp(-3)], ["a b c"]) == pytest.approx(1.0)
    assert surprise([0.0, 0.5], ["a", "b"]) == math.inf
    profiles = [Profile(n, (1.0,) * 10) for n in ("a", "a-near-1", "b", "c", "d")]
    assert [p.name for p in spread_over(profiles, 2)] == ["a", "c"]
