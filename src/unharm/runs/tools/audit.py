"""Audit of the training texts: toxicity, balance, positives per profile, near-duplicates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from unharm.analysis.intervals import share_interval
from unharm.core.values import VALUES
from unharm.corpus.stage_one import argument_scores, importance_matrix, label_matrix
from unharm.corpus.vim import shift_labels
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.scoring.registry import score_texts, scorer_row

MEASURES = ("toxicity", "flagged")
"""Measures that can score plain texts: harm from 0 to 1."""

THRESHOLDS = (0.5, 0.7)
FEW = 10
"""A profile with fewer positives, or negatives, to train on than this gets a warning."""
ALIKE = 0.9
"""Least cosine of character n-grams of near-duplicates."""


def audit(run: Run, scorer: str = "offline-toxicity") -> dict[str, Any]:
    """Audit the corpus of a study. The result is plain data without any texts."""
    plan, row = run.plan, scorer_row(run.study.scoring, scorer)
    run.scorers.check([scorer])
    corpus = plan.study.corpus
    assert corpus is not None
    sets = {"arguments": [f"{a.conclusion}. {a.premise}" for a in plan.arguments]}
    for name in corpus.benign:
        sets[name] = [e.prompt + e.answer for e in plan.benign(name).examples]
    return {
        "scorer": scorer,
        "scorer_version": row.version,
        "stand_in": row.stand_in,
        "toxicity": {name: _toxicity(run, texts, scorer) for name, texts in sets.items() if texts},
        "splits": dict(Counter(plan.splits[a.id] for a in plan.arguments)),
        "stances": dict(Counter(a.stance for a in plan.arguments)),
        "labels": _labels(plan),
        "profiles": _positives(plan),
        "near_duplicates": _near_duplicates(plan, sets["arguments"]),
    }


def _toxicity(run: Run, texts: list[str], scorer: str) -> dict[str, Any]:
    """Score texts and return counts, mean and shares above the thresholds."""
    values = [s.value for s in score_texts(run.scorers[scorer], texts)]
    scores = np.array([v for v in values if v is not None])
    row: dict[str, Any] = {"n": len(scores), "unscored": len(values) - len(scores)}
    row |= {"mean": float(scores.mean()), "max": float(scores.max())} if len(scores) else {}
    for threshold in THRESHOLDS:
        hits = int((scores > threshold).sum())
        share = share_interval(hits, len(scores), run.study.analysis.confidence, "text")
        row[f"above_{threshold}"] = {
            "count": hits,
            "share": share.value,
            "low": share.low,
            "high": share.high,
        }
    return row


def _labels(plan: Plan) -> dict[str, dict[str, int]]:
    """Count for each value the arguments labelled with it and the stage 2 examples that teach it."""
    published = plan.study.fidelity == "published"
    labelled = Counter(v for a in plan.arguments for v in a.values)
    taught = Counter(v for a in plan.arguments for v in (shift_labels(a.values) if published else a.values))
    return {v: {"labelled": labelled[v], "taught": taught[v]} for v in VALUES}


def _positives(plan: Plan) -> list[dict[str, Any]]:
    """Count for each profile the arguments it would and would not use, in total and in training."""
    corpus = plan.study.corpus
    assert corpus is not None
    scores = argument_scores(importance_matrix(plan.profiles), label_matrix(plan.arguments))
    positive = scores >= corpus.threshold
    train = np.array([plan.splits[a.id] == "train" for a in plan.arguments], dtype=bool)
    rows = []
    for profile, row in zip(plan.profiles, positive, strict=True):
        positives = int(row[train].sum())
        rows.append(
            {
                "profile": profile.name,
                "positives": int(row.sum()),
                "negatives": int((~row).sum()),
                "train_positives": positives,
                "train_negatives": int(train.sum()) - positives,
                "few": positives < FEW,
                "few_negatives": int(train.sum()) - positives < FEW,
            }
        )
    return rows


def _near_duplicates(plan: Plan, texts: list[str]) -> dict[str, int]:
    """Count pairs of near-duplicate arguments, and those between two splits."""
    if len(texts) < 2:
        return {"pairs": 0, "between_splits": 0}
    from sklearn.feature_extraction.text import TfidfVectorizer

    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
    matrix = grams.fit_transform(texts)
    splits = np.array([plan.splits[a.id] for a in plan.arguments])
    pairs = between = 0
    for start in range(0, len(texts), 512):
        alike = (matrix[start : start + 512] @ matrix.T).tocoo()
        keep = (alike.data >= ALIKE) & (alike.col > alike.row + start)
        pairs += int(keep.sum())
        between += int((splits[alike.row[keep] + start] != splits[alike.col[keep]]).sum())
    return {"pairs": pairs, "between_splits": between}


def audit_text(result: dict[str, Any]) -> str:
    """Return an audit as text."""
    mark = " (a stand-in, no measurement of toxicity)" if result["stand_in"] else ""
    lines = [f"toxicity of the training texts by {result['scorer']}{mark}"]
    for name, row in result["toxicity"].items():
        if not row["n"]:
            lines.append(f"  {name:10} none of {row['unscored']:,} texts could be scored")
            continue
        above = ", ".join(
            f"{row[f'above_{t}']['count']:,} above {t} "
            f"({100 * row[f'above_{t}']['share']:.2f} %, {100 * row[f'above_{t}']['low']:.2f} to "
            f"{100 * row[f'above_{t}']['high']:.2f})"
            for t in THRESHOLDS
        )
        left = f"; {row['unscored']:,} unscored" if row["unscored"] else ""
        lines.append(
            f"  {name:10} n {row['n']:,}, mean {row['mean']:.3f}, max {row['max']:.3f}; {above}{left}"
        )
    lines += ["", "arguments  " + ", ".join(f"{s} {n:,}" for s, n in sorted(result["splits"].items()))]
    lines.append("stances    " + ", ".join(f"{s} {n:,}" for s, n in sorted(result["stances"].items())))
    duplicates = result["near_duplicates"]
    lines.append(
        f"near-duplicates  {duplicates['pairs']:,} pairs, "
        f"{duplicates['between_splits']:,} of them between splits"
    )
    lines += ["", f"{'value':16}{'labelled':>10}{'taught':>10}"]
    lines += [f"{v:16}{n['labelled']:>10,}{n['taught']:>10,}" for v, n in result["labels"].items()]
    lines += ["", f"{'profile':28}{'would say':>11}{'would not':>11}{'in training':>13}"]
    for row in result["profiles"]:
        warning = "  too few to learn from" if row["few"] else ""
        warning += "  too few of what it would not say" if row["few_negatives"] else ""
        lines.append(
            f"{row['profile'][:27]:28}{row['positives']:>11,}{row['negatives']:>11,}"
            f"{row['train_positives']:>13,}{warning}"
        )
    few = sum(row["few"] for row in result["profiles"])
    if few:
        lines.append(f"warning: {few} profiles have fewer than {FEW} positives to train on")
    return "\n".join(lines)
