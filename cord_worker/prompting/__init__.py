"""Builds prompts from texts, and cuts a model's text into steps.

Only texts are stored and passed on, because each model has its own token ids.
"""
