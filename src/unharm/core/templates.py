"""Templates with named slots, and nothing more: no format, no conversion, no attribute.

Python's templates can do more than fill in: `{a:>9999999999}` makes ten gigabytes, `{a.__class__}` looks
into objects. A template of a user may have `{name}` and `{{` and `}}` for plain braces.
"""

from __future__ import annotations

import re
import string

SLOT = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def slots_of(text: str) -> set[str]:
    """The names of the slots of a template.

    Raises:
        ValueError: It is no template, or a slot is more than a name.
    """
    names = set()
    for _, field, format_, conversion in string.Formatter().parse(text):
        if field is None:
            continue
        if format_ or conversion:
            raise ValueError(
                f"the slot {{{field}}} has a format or a conversion: only {{{field}}} is allowed"
            )
        if not SLOT.fullmatch(field):
            raise ValueError(f"{{{field}}} is no slot: a slot is a name in braces")
        names.add(field)
    return names
