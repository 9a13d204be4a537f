"""The search algorithms, pure: stored rows in, decision out
(docs/what-is-computed.md#one-decoding-step).

Nothing here does I/O, reads a clock or draws a random number. An algorithm is a module with two functions, and the
constant `READS_EARLIER`, which says whether `decide` also gets the candidates of earlier steps:

    initial(settings, scope, teachers) -> Expand
    decide(settings, scope, teachers, *, step, round, beam, candidates, spent) -> Decision

`cord` is the paper's algorithm; with `beam_width = 1` it is one chain of the paper's greedy baseline. `decide` reads
stored rows only, so another call on the same rows (`cordctl replay`) gives the same decision.
"""
