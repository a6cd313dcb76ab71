"""Transformers models and PEFT folders, independent of any study."""
