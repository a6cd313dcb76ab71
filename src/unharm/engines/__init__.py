"""Engines that complete prompts."""
