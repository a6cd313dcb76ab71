"""What is known of a published data set before its file is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """Where a data set is obtained and under which licence.

    `field` is the field of a study that names its file. `sizes` are the numbers of items in its published
    forms, as our readers count them; empty where nobody has counted. `todo` says how to get it.
    """

    title: str
    field: str
    where: str
    licence: str
    sizes: tuple[int, ...] = ()
    todo: str = "download it and name the file in the study"
