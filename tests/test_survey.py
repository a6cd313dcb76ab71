"""Survey respondents: coding, deletion, neighbours, and the reference figures of the ESS."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from unharm.benchmarks.registry import Benchmarks
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme
from unharm.profiles.settings import ProfileSource
from unharm.profiles.similar import jensen_shannon, most_similar
from unharm.profiles.survey import group_means, load_items, read_survey
from unharm.run.plan import profiles_of
from unharm.study.spec import Study

ITEMS = load_items()
PUBLISHED = {
    "achievement": "Ach", "benevolence": "Ben", "conformity": "Con", "hedonism": "Hed", "power": "Pow",
    "security": "Sec", "self-direction": "SD", "stimulation": "Sti", "tradition": "Tra",
    "universalism": "Uni", "openness-to-change": "Openness_to_Change",
    "self-enhancement": "Self-Enhancement", "conservation": "Conservation",
    "self-transcendence": "Self-Transcendence",
}  # fmt: skip


def survey(
    path: Path, rows: list[list[object]], extra: dict[str, list[str]] | None = None, sep: str = ","
) -> Path:
    extra = extra or {}
    lines = [sep.join([*ITEMS.columns, *extra])]
    lines += [
        sep.join([*map(str, row), *(column[i] for column in extra.values())]) for i, row in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def answers(**by_value: int) -> list[object]:
    """One respondent: the answer to every item of a value, 3 where not said."""
    return [by_value.get(v.replace("-", "_"), 3) for v in VALUES for _ in ITEMS.values[v]]


def test_coding_is_turned_around_unless_as_published(tmp_path: Path) -> None:
    path = survey(tmp_path / "s.csv", [answers(power=1, security=6)])
    person = dict(zip(VALUES, read_survey(path, ITEMS).importances[0], strict=True))
    assert (person["power"], person["security"], person["hedonism"]) == (6, 1, 4)
    published = read_survey(path, ITEMS, as_published=True).importances[0]
    assert published[VALUES.index("power")] == 1


def test_missing_answers_drop_the_respondent_and_repeats_the_vector(tmp_path: Path) -> None:
    rows = [
        answers(),
        answers(power=77),
        answers(power=5),
        answers(),
        answers(hedonism=2),
        ["", *answers()[1:]],
    ]
    found = read_survey(survey(tmp_path / "s.csv", rows), ITEMS)
    assert (found.read, found.complete, len(found.importances)) == (6, 4, 3)
    assert found.rows.tolist() == [0, 2, 4]


def test_ipsatised_scores_are_centred_on_each_respondent(tmp_path: Path) -> None:
    path = survey(tmp_path / "s.csv", [answers(power=2, security=4)])
    found = read_survey(path, ITEMS, ipsatise=True).importances[0]
    assert found.mean() == pytest.approx(3.5)
    assert found[VALUES.index("power")] - found[VALUES.index("security")] == pytest.approx(2)


def test_group_means(tmp_path: Path) -> None:
    rows = [answers(power=1), answers(power=3), answers(power=5), answers(power=5)]
    path = survey(tmp_path / "s.csv", rows, {"cntry": ["B", "A", "B", "B"]}, sep=";")
    means = group_means(read_survey(path, ITEMS, group="cntry"))
    assert {name: (mean[VALUES.index("power")], n) for name, (mean, n) in means.items()} == {
        "A": (4.0, 1), "B": (pytest.approx((6 + 2 + 2) / 3), 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([answers(power=8)], "have the codes 8"),
        ([answers(power=0)], "list further missing codes under `missing`"),
        ([["x", *answers()[1:]]], "not readable as numbers"),
    ],
)
def test_codes_that_do_not_fit(tmp_path: Path, rows: list[list[object]], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        read_survey(survey(tmp_path / "s.csv", rows), ITEMS)
    assert "s.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("a|b\n1|2\n", "one column alone means another delimiter"),
        ("idno,x\n1,2\n", "21 of 21"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_survey(path, ITEMS)


def test_an_item_map_of_ones_own(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "values": {v: [f"q_{v}"] for v in VALUES}, "lowest": 0, "highest": 10, "reversed": False, "missing": [-1],
    }  # fmt: skip
    path = tmp_path / "items.yaml"
    path.write_text(yaml.safe_dump(data))
    table = tmp_path / "s.csv"
    table.write_text(
        ",".join(f"q_{v}" for v in VALUES) + "\n" + ",".join(["10"] + ["0"] * 9) + "\n-1" + ",5" * 9 + "\n"
    )
    found = read_survey(table, load_items(str(path)))
    assert found.importances.tolist() == [[6.0] + [1.0] * 9]
    data["values"] |= {"power": "q", "bravery": ["x"]}
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError) as caught:
        load_items(str(path))
    assert "values.power" in str(caught.value)
    assert "unknown value 'bravery'" in str(caught.value)


VECTORS = hnp.arrays(float, st.tuples(st.integers(1, 12), st.just(10)), elements=st.floats(1, 6))


@given(VECTORS)
def test_divergence_is_the_mean_of_two_scipy_entropies(vectors: np.ndarray) -> None:
    target = np.array(extreme("power").importances)
    q = target / target.sum()
    middles = [(v / v.sum() + q) / 2 for v in vectors]
    expected = [(entropy(v, m) + entropy(q, m)) / 2 for v, m in zip(vectors, middles, strict=True)]
    found = jensen_shannon(vectors, target)
    assert found == pytest.approx(expected, abs=1e-12)
    assert (found >= 0).all()


def test_ties_go_to_the_first_respondent() -> None:
    vectors = np.array([[2.0] * 10, [3.0] * 10, [1.0] * 9 + [6.0], [5.0] * 10])
    assert most_similar(vectors, np.array([4.0] * 10), 3).tolist() == [0, 1, 3]


def neighbours(path: Path, **more: Any) -> Study:
    return Study(
        name="x", base="toy", data=str(path.parent), arms=["icl"], benchmarks=Benchmarks(),
        profiles=[ProfileSource(survey=path.name, nearest=2, to=["power"])], **more,
    )  # fmt: skip


def test_golden_neighbours(tmp_path: Path) -> None:
    rows = [
        answers(power=p, achievement=a, universalism=u) for p in (1, 3, 5) for a in (2, 4) for u in (3, 6)
    ]
    path = survey(tmp_path / "s.csv", rows)
    corrected = profiles_of(neighbours(path))
    everybody = read_survey(path, ITEMS).importances
    target = np.array(extreme("power").importances)
    nearest = sorted(everybody.tolist(), key=lambda v: jensenshannon(v, target))[:2]
    assert [p.name for p in corrected] == ["power-near-1", "power-near-2"]
    assert [list(p.importances) for p in corrected] == nearest
    assert (corrected[0]["power"], corrected[0]["achievement"]) == (6, 3)
    assert corrected[0].source == "s.csv row 4"
    published = profiles_of(neighbours(path, fidelity="published"))
    assert [p["power"] for p in published] == [5, 5]
    with pytest.raises(UserError, match="500 nearest respondents"):
        profiles_of(
            neighbours(path).model_copy(update={"profiles": [ProfileSource(survey="s.csv", nearest=500)]})
        )


def test_reference_counts_of_the_ess(real_data: Path) -> None:
    found = read_survey(real_data / "ess" / "ess.csv", ITEMS)
    assert (found.read, found.complete, len(found.importances)) == (22_190, 20_587, 20_466)
    assert found.importances.min() >= 1
    assert found.importances.max() <= 6


def ess_study(real_data: Path, fidelity: str) -> Study:
    return Study(
        name="x", base="toy", data=str(real_data), arms=["icl"], benchmarks=Benchmarks(), fidelity=fidelity,  # type: ignore[arg-type]
        profiles=[ProfileSource(survey="ess/ess.csv", nearest=10)],
    )  # fmt: skip


def test_the_published_neighbours_from_the_uncorrected_vectors(real_data: Path) -> None:
    """All 140 published respondents as 14 sets of ten, at least 137 in their exact rank."""
    with (real_data / "profiles" / "extreme_distributions.csv").open() as file:
        table = {r[0]: np.array(r[1:], dtype=float) for r in list(csv.reader(file, delimiter="\t"))[1:]}
    found = {p.name: np.array(p.importances) for p in profiles_of(ess_study(real_data, "published"))}
    exact = 0
    for name, short in PUBLISHED.items():
        theirs = [table[f"close_{short}"], *(table[f"close_{short}_{k}"] for k in range(2, 11))]
        ours = [found[f"{name}-near-{k}"] for k in range(1, 11)]
        key = [tuple(np.round(v, 6)) for v in ours]
        assert sorted(key) == sorted(tuple(np.round(v, 6)) for v in theirs), name
        exact += sum(np.allclose(a, b) for a, b in zip(theirs, ours, strict=True))
    assert exact >= 137


def test_corrected_neighbours_hold_the_target_value_high(real_data: Path) -> None:
    target, others = [], []
    corrected = profiles_of(ess_study(real_data, "corrected"))
    for profile in corrected:
        high = TARGETS[profile.name.rpartition("-near-")[0]]
        target.append(np.mean([profile[v] for v in high]))
        others.append(np.mean([profile[v] for v in VALUES if v not in high]))
    assert len(target) == 140
    assert np.mean(target) >= 5.3
    assert np.mean(others) <= 3.0
    published = {p.source for p in profiles_of(ess_study(real_data, "published"))}
    assert not published & {p.source for p in corrected}


def test_the_154_profiles_in_one_line(real_data: Path, load: Any, tiny_study: dict[str, Any]) -> None:
    study = load(tiny_study, f"profiles=[extreme, {{survey: {real_data}/ess/ess.csv, nearest: 10}}]")
    assert len(profiles_of(study)) == 154
