"""The search algorithms, pure: stored rows in, decision out
(docs/what-is-computed.md#one-decoding-step).

Nothing here does I/O, reads a clock or draws a random number. An algorithm is a module with two functions, and they
are all that the coordinator knows of it, but for `READS_EARLIER`, which says whose candidates it is given:

    initial(settings, scope, teachers) -> Expand
    decide(settings, scope, teachers, *, step, round, beam, candidates) -> Decision

`cord` is the paper's algorithm; with `beam_width = 1` it is the paper's greedy baseline. Because `decide` sees stored
rows only, calling it again on the same rows (`cordctl replay`) gives the same decision.
"""
