# SPDX-License-Identifier: MIT
"""work.py VERB ARGUMENT...: what a user's program does with a mount; a process of its own, since a mount may be seen by
its user alone. Prints a JSON number or list."""
import json
import os
import random
import subprocess
import sys
import threading
import time

BLOCK = 1 << 20


def read(path):
    """Seconds that the whole file takes, in blocks of 1 MiB."""
    buffer = bytearray(BLOCK)
    start = time.perf_counter()
    total = 0
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while n := file.readinto(buffer):
            total += n
    took = time.perf_counter() - start
    assert total == size, f"{path}: {total} of {size} bytes"
    return took


def first(*paths):
    """For each, seconds from open(2) to its first byte."""
    took = []
    for path in paths:
        start = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            assert len(file.read(1)) == 1
        took.append(time.perf_counter() - start)
    return took


def pread_some(path, offsets, length):
    fd = os.open(path, os.O_RDONLY)
    for offset in offsets:
        assert len(os.pread(fd, length, offset)) == length
    os.close(fd)


def spread(path, n_readers, n_each, length):
    """Reads a second of so many readers together, at offsets that are the same in each run."""
    n_readers, n_each, length = int(n_readers), int(n_each), int(length)
    places = random.Random(1).sample(range(os.stat(path).st_size // length), n_readers * n_each)
    threads = [threading.Thread(target=pread_some, args=(path, [length * i for i in places[n::n_readers]], length))
               for n in range(n_readers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return n_readers * n_each / (time.perf_counter() - start)


def write(source, path):
    """Seconds until close(2) has returned."""
    with open(source, "rb") as file:
        data = memoryview(file.read())
    start = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(data), BLOCK):
            block = data[at:at + BLOCK]
            assert file.write(block) == len(block)
    return time.perf_counter() - start


def fill(source, directory, limit_s):
    """Copies files one by one; [how many, seconds]. Stops after limit_s."""
    names = sorted(os.listdir(source))
    data = [open(os.path.join(source, name), "rb").read() for name in names]
    start = time.perf_counter()
    os.makedirs(directory, exist_ok=True)
    for n, name in enumerate(names, 1):
        with open(os.path.join(directory, name), "wb", buffering=0) as file:
            file.write(data[n - 1])
        if time.perf_counter() - start > float(limit_s):
            break
    return [n, time.perf_counter() - start]


def read_all(directory, n, limit_s):
    """Reads n files one by one; [how many, seconds]. Stops after limit_s."""
    start = time.perf_counter()
    for i in range(int(n)):
        with open(os.path.join(directory, f"file{i:04d}"), "rb", buffering=0) as file:
            assert len(file.read()) == 65536
        if time.perf_counter() - start > float(limit_s):
            break
    return [i + 1, time.perf_counter() - start]


def timed(n_lines, *command):
    """Seconds of a command that prints so many lines."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, check=True)
    took = time.perf_counter() - start
    assert done.stdout.count(b"\n") == int(n_lines), f"{command}: {done.stdout.count(bytes([10]))} lines, not {n_lines}"
    return took


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
