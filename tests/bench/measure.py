# SPDX-License-Identifier: MIT
"""What the benches share: running programs, time, CPU and memory of processes."""
import os
import subprocess
import time
from pathlib import Path

MB = 1 << 20
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}


class Failed(Exception):
    """The bench cannot go on; the text says why."""


def show(value, unit):
    if value is None:
        return ""
    return f"{value:.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:.3g} {unit}"


def run(*command, **kwargs):
    kwargs = {**QUIET, "stderr": subprocess.PIPE, "text": True, **kwargs}
    done = subprocess.run([str(word) for word in command], check=False, **kwargs)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))[:200]}: exit status {done.returncode}: {done.stderr.strip()}")
    return done


def wait_for(predicate, what, seconds=60):
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            raise Failed(f"after {seconds} s still not: {what}")
        time.sleep(0.002)


def cpu_ms(pid):
    """User and system time of a process with all its threads, also those that have ended, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2) * 1000  # CPUCLOCK_SCHED of clock_getcpuclockid(3)


def memory_mb(pid, field="VmRSS"):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / MB
    raise Failed(f"/proc/{pid}/status has no {field}")


def touch_memory(size=2 << 30):
    """A virtual machine's memory is slow when it is used for the first time, or once it was free for seconds and went back
    to the host; that is not what is measured."""
    free = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemAvailable:"))
    block = bytearray(min(size, free // 4))
    block[::4096] = b"\1" * len(block[::4096])
    del block


def mount_number(path):
    """"MAJOR:MINOR" of what is mounted at this very place, or None."""
    for line in open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape"):
        fields = line.split(" ")
        if fields[4] == str(path):
            return fields[2]
    return None
