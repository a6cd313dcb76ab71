"""JSON of others: what is wrong with it in words, whatever it is."""

from __future__ import annotations

import json
from typing import Any


class NotJson(Exception):
    """A text that is no JSON, or none that can be read. `line` counts from 1."""

    def __init__(self, problem: str, line: int = 1):
        super().__init__(problem)
        self.problem, self.line = problem, line


def parse_json(text: str) -> Any:
    """The data in a text.

    Raises:
        NotJson: It is not JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON ({error.msg})", error.lineno) from None
    except RecursionError:
        raise NotJson("not readable: nested too deeply") from None
    except ValueError:
        raise NotJson("not readable: a number with too many digits") from None
