"""A Slurm cluster of one node with four made-up GPUs on loopback, for the length of a `with`; needs root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "unshare")

_SETTINGS = """\
ClusterName=cord-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=1000000 Gres=gpu:4 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10
"""


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed (Debian: slurm-wlm)" if absent else None


class Slurm:
    """The cluster; `environment` makes Slurm's commands use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """Runs one of Slurm's commands; returns what it prints."""
        called = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert called.returncode == 0, (command, called.stderr)
        return called.stdout

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job."""
        words = self.call("scontrol", "show", "job", "--oneliner", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster whose files are in `folder`. Its jobs are cancelled at the end."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for number in range(4):
        (folder / f"gpu{number}").touch()
    ports = [_free_port(), _free_port()]
    text = _SETTINGS.format(host=socket.gethostname(), folder=folder, controller=ports[0], node=ports[1])
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n", encoding="utf-8")
    cluster = Slurm(folder)
    daemons = []
    try:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            with (folder / f"{command[0]}.log").open("wb") as log:
                daemons.append(subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log))
        _wait_for_the_node(cluster)
        yield cluster
        cluster.call("scancel", "--partition", "low")
        _wait_for_the_end_of_jobs(cluster)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(timeout=60)


def _wait_for_the_node(cluster: Slurm) -> None:
    deadline = time.monotonic() + 60
    said = ""
    while "idle" not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
        said = subprocess.run(
            ["sinfo", "--noheader"], env=cluster.environment, capture_output=True, text=True, timeout=60, check=False
        ).stdout


def _wait_for_the_end_of_jobs(cluster: Slurm) -> None:
    deadline = time.monotonic() + 120
    while cluster.call("squeue", "--noheader"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
