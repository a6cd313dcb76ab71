"""Train LoRA adapters on a frozen base."""
