"""A classifier of hate and offence in tweets, offline: the model inside the package hatesonar.

A logistic regression over words, trained on the 24,783 tweets of Davidson et al. (2017), "Automated Hate
Speech Detection and the Problem of Offensive Language". The tweets were collected by a list of offensive
words: 6 % are labelled hate, 77 % offensive and 17 % neither. The authors report a precision of 0.44 and a
recall of 0.61 for hate. A text without known words gets 0.32, and words of a dialect are taken for offence.
The model knows words, not meaning: use it as a second opinion on toxicity, not as a measure of harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unharm.core.records import Score
from unharm.scoring.scorer import BuiltIn, Package, ScorerRow
from unharm.scoring.texts import Text

CLASSES = ("hate", "offensive", "neither")
BATCH = 256
"""Texts of one call. The model holds a dense row of word weights for each."""


def score(texts: Sequence[Text]) -> list[Score]:
    """Return the probability in [0, 1] that a text is hateful or offensive, labelled by its class."""
    import numpy as np

    scores = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        words = np.array([t.text for t in batch], dtype=object)
        _, rows = _session().run(None, {"text": words})
        for text, row in zip(batch, rows, strict=True):
            by_class = {name: float(row[n]) for n, name in enumerate(CLASSES)}
            likeliest = max(by_class, key=lambda name: by_class[name])
            raw = json.dumps({name: round(p, 6) for name, p in by_class.items()})
            scores.append(
                Score(text.id, min(1.0, by_class["hate"] + by_class["offensive"]), likeliest, raw=raw)
            )
    return scores


@cache
def _session() -> Any:
    """Load the model. It asks for the locale en_US.UTF-8, which small systems lack: C.UTF-8 lowers the same
    letters."""
    import onnx
    import onnxruntime

    spec = find_spec("hatesonar")
    assert spec
    assert spec.origin
    model = onnx.load(str(Path(spec.origin).parent / "model" / "model.onnx"))
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


SCORER = BuiltIn(
    "offline-tweets",
    ScorerRow(
        "toxicity",
        "1",
        True,
        "word model of hate and offence in tweets (Davidson et al. 2017)",
        reads="text",
    ),
    score,
    Package("hatesonar", "hatesonar", extra="hatesonar"),
)
