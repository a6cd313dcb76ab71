"""The training text of the toy base, drawn by seed from our own stock of sentences.

The text contains the formats that a study uses: a statement with its rating, a question with its answer.
Ratings are random and independent of the value, so every effect of a profile comes from the alignment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import yaml

from unharm.core.records import Argument
from unharm.core.values import VALUES
from unharm.corpus.valueeval import read_arguments
from unharm.prompting.pack import Pack, load_pack
from unharm.study.demo import data_folder

RATINGS_PER_ARGUMENT = 3
"""Number of random ratings of each argument."""
PORTRAITS, STORIES, QUESTIONS, DESCRIPTIONS = 1000, 700, 400, 400
"""Number of documents of each kind."""
RUDE, REFUSED, NEGATIVE = 0.12, 0.35, 0.3
"""Shares of rude sayings, refused questions and negative descriptions."""


def documents(seed: int) -> list[str]:
    """Return the documents of the toy world in an order drawn by seed."""
    pack = load_pack("toy")
    stock = yaml.safe_load((data_folder() / "world.yaml").read_text(encoding="utf-8"))
    draw = random.Random(seed)
    texts = [
        *_arguments(read_arguments(data_folder() / "arguments.tsv"), pack, draw),
        *_portraits(stock, pack, draw),
        *_stories(stock, draw),
        *_questions(stock, pack, draw),
        *_descriptions(stock, draw),
    ]
    draw.shuffle(texts)
    return texts


def _arguments(arguments: list[Argument], pack: Pack, draw: random.Random) -> Iterator[str]:
    for argument in arguments:
        premise = argument.premise[0].upper() + argument.premise[1:] + "."
        values = " and ".join(argument.values)
        for _ in range(2):
            yield f"{premise} Whoever says this thinks of {values}."
            yield f"Values: {values}. {premise}"
        for would in (True, False):
            yield "".join(pack.ag(argument, would))
        for _ in range(RATINGS_PER_ARGUMENT):
            yield "".join(pack.qa(argument, draw.choice(argument.values), _rating(draw)))


def _portraits(stock: dict[str, Any], pack: Pack, draw: random.Random) -> Iterator[str]:
    for _ in range(PORTRAITS):
        value = draw.choice(VALUES)
        phrases = draw.sample(stock["portraits"][value], 2)
        text = " ".join(f"{p[0].upper()}{p[1:]}." for p in phrases)
        if draw.random() < 0.4:
            yield f"{text} Whoever says this thinks of {value}."
        else:
            yield pack.rating_prompt(text) + pack.rating_answer(value, _rating(draw))


def _rating(draw: random.Random) -> int:
    """Draw a rating; ratings in the middle are more likely, as with human raters."""
    return draw.choices(range(1, 7), (1, 2, 5, 5, 2, 1))[0]


def _stories(stock: dict[str, Any], draw: random.Random) -> Iterator[str]:
    for _ in range(STORIES):
        who, scene = draw.choice(stock["people"]), draw.choice(stock["scenes"])
        if draw.random() < RUDE:
            said = f"shouted {draw.choice(stock['rude_sayings'])}"
        else:
            said = f"{draw.choice(['said', 'thought', 'told us'])} {draw.choice(stock['sayings'])}."
        text = f"{scene}, {who} {said}" if draw.random() < 0.5 else f"{who} {said}"
        yield text[0].upper() + text[1:]


def _questions(stock: dict[str, Any], pack: Pack, draw: random.Random) -> Iterator[str]:
    for _ in range(QUESTIONS):
        question = draw.choice(stock["asks"]).format(want=draw.choice(stock["wants"]))
        answers = stock["refusals"] if draw.random() < REFUSED else stock["answers"]
        yield pack.fill("ask", prompt=question) + " " + draw.choice(answers)


def _descriptions(stock: dict[str, Any], draw: random.Random) -> Iterator[str]:
    ways = [
        ("was known in town for", "regard"),
        ("was seen by others as", "seen"),
        ("found work as", "jobs"),
    ]
    for _ in range(DESCRIPTIONS):
        way, kind = draw.choice(ways)
        chance = draw.random()
        tone = "bad" if chance < NEGATIVE else "plain" if chance < 0.6 else "good"
        who = f"The {draw.choice(stock['kinds'])} {draw.choice(stock['marks'])}"
        yield f"{who} {way} {draw.choice(stock[f'{kind}_{tone}'])}."
