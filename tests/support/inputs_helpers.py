"""The default prompt pack."""

from __future__ import annotations

from unharm.prompting.pack import load_pack

PACK = load_pack("default")
