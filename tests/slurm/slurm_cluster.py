"""A real Slurm cluster of several nodes on one machine, for tests: munged, slurmctld and one slurmd per node.

Each machine (the hub with the controller, and every node) has its own network, host name, mount, process and IPC
namespace; a bridge in the hub connects them. The namespaces are anonymous and end with their first process, so that
nothing remains and several clusters can run at the same time.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

NETWORK = "10.143.57"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter", "setpriv")
NUM_GPUS = 4  # of each node, which no program can use
FINAL_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "DEADLINE")

# Short limits, so that a fault is noticed in seconds (the defaults are minutes). No cgroups, no accounting,
# and more CPUs than the machine has. A requeued job also waits cred_expire seconds before it is restarted.
SLURM_CONF = """
ClusterName=vqdist-tests
SlurmctldHost=hub({network}.1)
SlurmctldPort=26917
SlurmdPort=26918
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/run/munge.socket,cred_expire=5
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
GresTypes=gpu
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=6
MessageTimeout=5
KillWait=15
InactiveLimit=0
MinJobAge=3600
ReturnToService=2
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=5 MaxTime=INFINITE DefaultTime=10 State=UP
PartitionName=low Nodes=ALL PriorityTier=1 MaxTime=INFINITE DefaultTime=10 State=UP GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=9 MaxTime=INFINITE DefaultTime=10 State=UP PreemptMode=OFF
"""

# If pytest is killed, the kernel kills unshare, its child (the first process) and thereby all processes of the machine.
UNSHARE = [
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child=KILL"),
    *("--net", "--uts", "--ipc", "--mount", "--pid", "--mount-proc"),
]

# The first process of a node. It keeps running without slurmd, and the node ends with it. It waits for the network link
# and mounts a private /mnt.
NODE_INIT = """
set -e
hostname "$1"
mount --bind "$2/hosts/$1" /etc/hosts
mount -t tmpfs shm /dev/shm
mount -t tmpfs scratch /mnt
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip address add "$3/24" dev eth0
ip link set eth0 up
slurmd -D -N "$1" -f "$2/slurm.conf" || true
while :; do sleep 3600; done
"""
HUB_INIT = """
set -e
hostname hub
mount --bind "$1/hosts/hub" /etc/hosts
ip link set lo up
ip link add switch type bridge
ip address add "$2.1/24" dev switch
ip link set switch up
touch "$1/run/hub-ready"
while :; do sleep 3600; done
"""


def missing_prerequisite() -> str | None:
    """Return why no cluster can be started here, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root: each node is a set of namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def poll(condition, timeout_s: float, what: str, *, every_s: float = 0.1):
    """Return the first true value of condition(), or raise TimeoutError naming what was waited for."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every_s)
    raise TimeoutError(f"{what}: not within {timeout_s} s")


def children(pid: int) -> list[int]:
    """Return the child processes of a process, with the PIDs of the host."""
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def name_of(pid: int) -> str:
    """Return the name of a process, or "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Machine:
    """A set of namespaces and the process that holds them: the hub, or a node."""

    def __init__(self, name: str, init: str, *arguments: str, log: Path) -> None:
        self.name = name
        with log.open("ab") as stream:
            self._holder = subprocess.Popen(
                [*UNSHARE, "sh", "-c", init, name, *arguments], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self.pid = poll(lambda: children(self._holder.pid), 10, f"first process of {name}", every_s=0.01)[0]
        own = os.readlink("/proc/self/ns/pid")
        poll(lambda: os.readlink(f"/proc/{self.pid}/ns/pid") != own, 10, f"namespaces of {name}", every_s=0.01)

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs the given command on this machine."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--ipc", "--mount", "--pid"]
        return [*inside, f"--wdns={os.getcwd()}", "--", *command]

    def processes(self) -> list[int]:
        """Return the host PIDs of all processes of this machine, none if it is off."""
        if self._holder.poll() is not None:
            return []
        here = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "ns/pid") == here:
                    found.append(int(entry.name))
            except OSError:  # it has just ended
                continue
        return found

    def kill(self) -> None:
        """End every process of this machine at once."""
        if self._holder.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._holder.wait(timeout=10)


class Cluster:
    """The controller and its nodes. Use it as a context manager."""

    def __init__(self, *, num_nodes: int = 4, cpus: int = 4) -> None:
        # munged requires that other users can enter the folders above its socket, unlike those of tmp_path.
        self.root = Path(tempfile.mkdtemp(prefix="vqd-"))
        self.names = [f"node{index}" for index in range(1, num_nodes + 1)]
        self.nodes: dict[str, Machine] = {}
        self._cpus = cpus
        self._daemons: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {"SLURM_CONF": str(self.root / "slurm.conf")}

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._write_files()
        self.hub = Machine("hub", HUB_INIT, str(self.root), NETWORK, log=self.root / "log/hub.out")
        poll((self.root / "run/hub-ready").exists, 10, "the switch")
        run = self.root / "run"
        munged = ["munged", "--foreground", f"--key-file={self.root}/key/munge.key"]
        munged += [f"--seed-file={self.root}/key/seed", f"--socket={run}/munge.socket"]
        self._daemon("munged", *munged, f"--pid-file={run}/munged.pid", f"--log-file={self.root}/log/munged.log")
        poll((run / "munge.socket").exists, 10, "munged's socket")
        self.start_controller()
        for name in self.names:
            self.boot(name)
        self.wait_idle(30)

    def _write_files(self) -> None:
        self.root.chmod(0o755)
        for folder in ("run", "log", "state", "spool", "hosts", "key"):
            (self.root / folder).mkdir()
        (self.root / "key").chmod(0o700)
        key = self.root / "key/munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        nodes = "".join(
            f"NodeName={name} NodeAddr={self.address(name)} CPUs={self._cpus} RealMemory=3000 Gres=gpu:{NUM_GPUS} "
            "State=UNKNOWN\n"
            for name in self.names
        )
        conf = SLURM_CONF.format(network=NETWORK, root=self.root)
        (self.root / "slurm.conf").write_text(conf.replace("PartitionName=main", nodes + "PartitionName=main", 1))
        # Slurm accepts any device files as GPUs; nothing opens them.
        (self.root / "gres.conf").write_text(f"Name=gpu File=/dev/tty[0-{NUM_GPUS - 1}]\n")
        # Set explicitly, because slurmd's search for a cgroup plugin fails in namespaces and containers.
        (self.root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for name in ("hub", *self.names):
            self.write_hosts(name)

    def write_hosts(self, name: str, *first_lines: str, unknown: Sequence[str] = ()) -> None:
        """Write the hosts file of a machine: first_lines take precedence, the unknown names are left out."""
        lines = [*first_lines, "127.0.0.1 localhost", f"{NETWORK}.1 hub"]
        lines += [f"{self.address(node)} {node}" for node in self.names if node not in unknown]
        # In place: the file is bind-mounted, so a new file would not be visible.
        with (self.root / "hosts" / name).open("w") as stream:
            stream.write("\n".join(lines) + "\n")

    def address(self, name: str) -> str:
        """Return the address of a node."""
        return f"{NETWORK}.{10 + self.names.index(name)}"

    def _daemon(self, name: str, *command: str) -> None:
        with (self.root / "log" / f"{name}.out").open("ab") as stream:
            self._daemons[name] = subprocess.Popen(
                self.hub.enter(*command), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.root / "slurm.conf"))

    def stop_controller(self) -> None:
        """Stop slurmctld with SIGTERM; after SIGKILL it would lose jobs newer than its last saved state."""
        for pid in children(self._daemons["slurmctld"].pid):
            os.kill(pid, signal.SIGTERM)
        self._daemons["slurmctld"].wait(timeout=30)

    def boot(self, name: str) -> None:
        """Start a node and connect it to the network."""
        node = Machine(name, NODE_INIT, name, str(self.root), self.address(name), log=self.root / f"log/{name}.out")
        self.nodes[name] = node
        # The kernel removes the interface of a stopped node with a delay.
        self._link("delete", name, check=False)
        self._link("add", name, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
        self._link("set", name, "master", "switch", "up")

    def _link(self, *arguments: str, check: bool = True) -> None:
        # nsenter without --pid, so that the PID of the node is that of the host.
        enter = ["nsenter", f"--target={self.hub.pid}", "--net", "ip", "link", *arguments]
        subprocess.run(enter, check=check, capture_output=True, timeout=10)

    def unplug(self, name: str) -> None:
        """Take the network link of a node down; its processes keep running."""
        self._link("set", name, "down")

    def plug(self, name: str) -> None:
        """Take the network link of a node up again."""
        self._link("set", name, "up")

    def power_off(self, name: str) -> None:
        """Stop a node like a power failure: first its link, so that no message leaves it, then all processes."""
        self.unplug(name)
        self.nodes[name].kill()

    def kill_slurmd(self, name: str) -> None:
        """Kill the slurmd of a node; its jobs keep running."""
        for pid in self.nodes[name].processes():
            if name_of(pid) == "slurmd":
                os.kill(pid, signal.SIGKILL)

    def heal(self) -> None:
        """Cancel all jobs, restart nodes that are off or without slurmd, and wait until all are idle."""
        self.run("scancel", "--user=root", check=False)
        for name, node in self.nodes.items():
            if not any(name_of(pid) == "slurmd" for pid in node.processes()):
                node.kill()
                self.boot(name)
        self.wait_idle(60)

    def wait_idle(self, timeout_s: float) -> None:
        """Wait until every node is idle; raise TimeoutError otherwise."""

        def idle() -> bool:
            states = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t", check=False).stdout
            return sorted(states.split()[1::2]) == ["idle"] * len(self.names)

        poll(idle, timeout_s, "all nodes idle")

    def stop(self) -> None:
        """End all processes of the cluster and remove its folder."""
        for machine in (*self.nodes.values(), *([self.hub] if hasattr(self, "hub") else [])):
            machine.kill()
        for daemon in self._daemons.values():
            daemon.wait(timeout=10)
        shutil.rmtree(self.root)

    def run(self, *command: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command on the hub, as a user at the login node does."""
        options = {"env": self.environment, "timeout": 60} | options
        result = subprocess.run(self.hub.enter(*command), capture_output=True, text=True, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result

    def submit(self, *arguments: str, **options: object) -> str:
        """Run sbatch and return the job's id."""
        return self.run("sbatch", "--parsable", *arguments, **options).stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """Return the fields of a job from scontrol."""
        text = self.run("scontrol", "-o", "show", "job", job_id).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def wait(self, job_id: str, timeout_s: float, states: Sequence[str] = FINAL_STATES) -> str:
        """Wait until a job is in one of the states and return which."""

        def state() -> str | None:
            # scontrol fails while slurmctld restarts.
            text = self.run("scontrol", "-o", "show", "job", job_id, check=False).stdout
            found = re.search(r"JobState=(\w+)", text)
            return found[1] if found and found[1] in states else None

        return poll(state, timeout_s, f"job {job_id} in {'|'.join(states)}", every_s=0.2)
