"""Helpers of the tests: inputs_helpers."""

from __future__ import annotations

from unharm.prompting.pack import load_pack

PACK = load_pack("default")
