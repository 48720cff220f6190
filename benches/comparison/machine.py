"""The machine: its cores, the CPU time and the memory of a tree of processes."""

import os
import platform
import resource
import subprocess
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def children(root):
    """`root` and every process below it."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cpu_seconds(root):
    """CPU time, user and system, that the processes of the tree have used so far."""
    total = 0
    for pid in children(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_kib(root):
    """Memory that the processes of the tree have for themselves: anonymous pages and their share of
    files (PSS)."""
    total = 0
    for pid in children(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def prepare(cores):
    """What a started process does before it becomes the program: its cores, and room for sockets."""

    def before():
        os.sched_setaffinity(0, cores)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return before


def layout(workers):
    """Cores of the gateway and of everything else. With one worker the gateway has a core to itself;
    with more there is not enough of the machine for that, and they share it."""
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        raise SystemExit("compare: needs at least two cores")
    if workers == 1:
        return {every[0]}, set(every[1:])
    if len(every) >= 2 * workers:
        return set(every[:workers]), set(every[workers:])
    return set(every[:workers]), set(every)


def about(root):
    """What is said about a run: machine, kernel, commit."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "commit": commit,
    }
