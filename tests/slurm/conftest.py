"""A Slurm cluster of two nodes on loopback, which belongs to the tests and is gone when they end.

Settings and what is known of their traps: the nodes' names are loopback addresses in hexadecimal, which getaddrinfo
takes, so that no name server is asked; no accounting, no cgroups; a job that is requeued waits for `cred_expire`.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from getpass import getuser
from pathlib import Path

import pytest

SBIN = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"  # daemons are not on an ordinary user's PATH
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODES = ("0x7f000001", "0x7f000002")
PATIENCE_S = 30
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
MinJobAge=3600
ReturnToService=2
PropagateResourceLimits=NONE
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """The running daemons, and what is asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
            **{"SLURM_CONF": str(folder / "slurm.conf"), "PATH": SBIN},
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start munged, the controller and the nodes, and wait until the nodes are ready."""
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o700)
        facts = {"host": socket.gethostname().partition(".")[0], "user": getuser(), "folder": self.folder}
        text = CONFIGURATION.format(**facts, ports=free_ports(1 + len(NODES)), nodes=NODES)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "munge.key").touch(0o600)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        # Forced, as the temporary folders of tests are closed to other users, who are not to come in here.
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        words = [f"--{option}={self.folder / f'munge.{suffix}'}" for option, suffix in files.items()]
        self._serve("munged", "--foreground", "--force", *words)
        self._wait_for((self.folder / "munge.socket").exists)
        self._serve("slurmctld", "-D")
        for node in NODES:
            self._serve("slurmd", "-D", "-N", node)
        self._wait_for(self._is_ready)

    def _serve(self, program: str, *words: str) -> None:
        """Run a daemon in the foreground, so that its end can be waited for."""
        with (self.folder / f"{program}-{len(self.daemons)}.out").open("wb") as file:
            command = [shutil.which(program, path=SBIN) or program, *words]
            daemon = subprocess.Popen(command, env=self.environment, stdout=file, stderr=file, start_new_session=True)
        self.daemons.append(daemon)

    def _is_ready(self) -> bool:
        command = ["sinfo", "--noheader", "--partition=main", "--states=idle", "--format=%D"]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return result.stdout == f"{len(NODES)}\n"  # the controller may not answer yet

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                pytest.fail("Slurm does not start:\n" + "\n".join(tail(log) for log in self.folder.glob("*.out")))
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel what still runs and end the daemons; what a job started ends before the nodes do."""
        with suppress(AssertionError, subprocess.SubprocessError):  # of a controller that is gone
            self.run("scancel", f"--user={getuser()}")
            end = time.monotonic() + PATIENCE_S
            while time.monotonic() < end and self.run("squeue", "--noheader", "--states=running,completing"):
                time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Run a command and return what it prints; fail with what it says where it fails."""
        environment = self.environment | variables
        result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def jobs(self, number: str) -> list[dict[str, str]]:
        """Return what Slurm says of a job: of an array, of each of its tasks, by the task's number."""
        lines = self.run("scontrol", "show", "job", "--oneliner", number).splitlines()
        found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line]
        return sorted(found, key=lambda job: job.get("ArrayTaskId", ""))

    def states(self, number: str) -> list[str]:
        """Return the state of a job, of an array of each of its tasks."""
        return [job["JobState"] for job in self.jobs(number)]

    def wait(self, numbers: Sequence[str], timeout_s: float) -> None:
        """Wait until none of these jobs is in the queue."""
        end = time.monotonic() + timeout_s
        while queue := self.run("squeue", "--noheader", f"--jobs={','.join(numbers)}"):
            assert time.monotonic() < end, queue
            time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tail(file: Path) -> str:
    return f"{file.name}:\n" + "\n".join(file.read_text(errors="replace").splitlines()[-10:])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a running cluster; skip where Slurm is not installed."""
    lacking = [program for program in PROGRAMS if not shutil.which(program, path=SBIN)]
    if lacking:
        pytest.skip(f"Slurm is not installed (Debian: apt-get install slurm-wlm munge): no {', '.join(lacking)}")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
