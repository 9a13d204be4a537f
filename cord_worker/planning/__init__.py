"""How long a run will take and what it will cost: a simulation of its search, from the requests of a pilot run."""
