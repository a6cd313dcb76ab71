"""Training: LoRA adapters on a frozen base."""
