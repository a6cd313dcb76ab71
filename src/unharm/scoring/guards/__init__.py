"""Guards: language models that say whether an answer is safe. `PRESETS` is the table of known families."""

from __future__ import annotations

from unharm.scoring.guards import (
    gpt_oss_safeguard,
    granite_guardian,
    llama_guard,
    qwen3guard,
    shieldgemma,
    wildguard,
)
from unharm.scoring.guards.preset import Preset

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        qwen3guard.PRESET,
        llama_guard.LLAMA_GUARD_3,
        llama_guard.LLAMA_GUARD_4,
        granite_guardian.GRANITE_GUARDIAN_3,
        granite_guardian.GRANITE_GUARDIAN_4,
        granite_guardian.GRANITE_GUARDIAN_4_THINKING,
        gpt_oss_safeguard.PRESET,
        shieldgemma.PRESET,
        wildguard.WILDGUARD,
        wildguard.POLYGUARD,
    )
}
