"""Prompts as text: templates, wildcards, training captions, forbidden words. Pure."""
