"""Description of a published data set: where to get it, its licence and its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        title: Its name in messages.
        field: The field of a study that names its file.
        where: Where it can be downloaded.
        licence: The licence it is published under.
        sizes: Item counts of its published versions, as our readers count them. Empty if unknown.
        todo: How to obtain it.
    """

    title: str
    field: str
    where: str
    licence: str
    sizes: tuple[int, ...] = ()
    todo: str = "download it and name the file in the study"
