"""Configurations of the engine that answers at once."""

from __future__ import annotations

INSTANT = """
[models.alpha]
path = "alpha"
engine = "instant"
[models.beta]
path = "beta"
engine = "instant"
[models.judge]
path = "judge"
engine = "instant"
[[teachers]]
name = "alpha"
model = "alpha"
[[teachers]]
name = "beta"
model = "beta"
[[teachers]]
name = "beta-hot"
model = "beta"
temperature = 0.9
[prover]
model = "judge"
[search]
beam_width = 3
max_steps = 8
[run]
max_active = 16
max_attempts = 20
"""

SMALL = """
[models.alpha]
path = "alpha"
engine = "instant"
[models.judge]
path = "judge"
engine = "instant"
[[teachers]]
name = "alpha"
model = "alpha"
[prover]
model = "judge"
"""
"""One teacher and a prover, which may also judge; further tables may follow."""

SECOND_TEACHER = '[[teachers]]\nname = "alpha-hot"\nmodel = "alpha"\ntemperature = 0.9\n'
"""A second teacher on the model of the first."""

SEARCHES = {
    "greedy": 'pipeline = "greedy"\ntrajectories = 3\n',
    "curation": 'pipeline = "curation"\ntrajectories = 2\n',
    "integration": 'pipeline = "integration"\ntrajectories = 2\n',
    "mcts": 'pipeline = "mcts"\ntrajectories = 3\n',
    "random": 'selection = "random"\n',
    "sample": 'pipeline = "sample"\ntrajectories = 4\n',
    "reserve": 'finished = "reserve"\nlength_normalisation = 0.5\n',
    "first": 'finished = "first"\nsegmentation = "line_break"\n',
    "every option": 'finished = "reserve"\nlength_normalisation = 0.5\ndiversity_teacher = 0.1\ndiversity_text = 0.2\n'
    "score_resolution = 0.1\n",
    "budget": "total_tokens = 250\n",
    "budget of a tree": 'pipeline = "mcts"\ntrajectories = 3\ntotal_tokens = 250\n',
    "line break": 'segmentation = "line_break"\n',
    "phrases": 'segmentation = "phrases"\nphrases = ["wait"]\n',
    "whole without markers": 'pipeline = "curation"\nsegmentation = "line_break"\n',
    "longest": 'pipeline = "curation"\nselection = "max_length"\n',
}
"""Additions to `[search]`, by name."""

INTEGRATOR = '[models.merger]\npath = "merger"\nengine = "instant"\n[integration]\nmodel = "merger"\n'
"""Tables that runs of the pipeline `integration` need."""

REWARD = '[models.prm]\npath = "prm"\nengine = "instant"\nhead = "reward"\n[reward]\nmodel = "prm"\n'
"""Tables that runs need to select by a reward model."""


def config_of(search: str) -> str:
    """The instant models with one of `SEARCHES`."""
    config = INSTANT.replace("[search]\n", f"[search]\n{SEARCHES[search]}")
    return config + INTEGRATOR if search == "integration" else config
