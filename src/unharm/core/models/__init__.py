"""Transformers models and PEFT folders, without any study."""
