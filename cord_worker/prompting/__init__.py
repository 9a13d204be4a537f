"""Builds prompts from text and cuts a model's text into steps. Text is canonical; each model has its own ids."""
