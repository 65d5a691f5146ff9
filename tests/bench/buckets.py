#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures buckets on a mount side by side with s3fs, rclone, Mountpoint and gcsfuse, all at the same server of this
machine, and with curl to /dev/null as the limit; then all again with the server far away: 20 ms more a request, 200 MB/s a
connection (tests/bench/far.c). `contrib/peers --bench` installs servers and peers; a peer that is not there is left out.
Servers, spools and caches are in $TMPDIR: where the disk is slow, name a tmpfs there (it needs 5 times --size).

Every number is of a fresh mount. The clients take turns; each number is the median of several runs, each ratio the median of
the ratios of neighbouring runs, "ahead" is ours against the best peer: above 1 is better. `<` and `>`: it was stopped by the
time limit. A run of more than 3 s is not repeated. As root, all mounts are made by an ordinary user, `ours, root` apart.

Cases: a read, b first, c random, d write, e files, f list; g (CPU) and h (memory) are of these runs. keys: find over a million
keys below one prefix, which a server makes up.
To see one: contrib/bench buckets --only read --client ours --service s3 --place near --size 256M --runs 1
"""
import argparse
import json
import math
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from clients import CLIENTS, Ours
from measure import MB, Failed, run, show, touch_memory, wait_for
from services import N_FIRST, SERVICES, write_random

TOP = Path(__file__).resolve().parent.parent.parent
USER = "trainfs-test"  # as contrib/check names it
LIMIT_S = 15  # for one piece of work
FILES_LIMIT_S = 5
KEYS_LIMIT_S = 60
LONG_S = 3    # longer ones are not repeated
STREAMS = 8
N_FILES, FILE_BYTES = 1000, 65536
RANDOM_BYTES = 128 << 10
MEMORY_MB = 256
# A list costs a page for 1,000 keys, and a call for each name on the way to it: the bucket, the directory; find lists tree/ too.
PATH_NAMES = {"list": 2, "find": 3, "keys": 2}


# ---- what a case gives


class Value:
    """A number; is_bound: it is worse than this, by how much is not known."""

    def __init__(self, number, is_bound=False):
        self.number, self.is_bound = number, is_bound


def rate(amount, seconds):
    return Value(amount / LIMIT_S, True) if seconds is None else Value(amount / seconds)


def milliseconds(seconds, limit_s=LIMIT_S):
    return Value(limit_s * 1000, True) if seconds is None else Value(seconds * 1000)


class Row:
    """What is measured: its letter, text, unit, and whether more is better."""

    def __init__(self, letter, text, unit, is_more=True):
        self.letter, self.text, self.unit, self.is_more = letter, text, unit, is_more


# ---- curl


def curl(*words):
    """Runs curls side by side; (seconds, CPU seconds, what they printed)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    children = [subprocess.Popen(["curl", "-sSf", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 text=True) for arguments in words]
    told = [child.communicate()[0] for child in children]
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(child.returncode for child in children):
        raise Failed("curl failed")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, told


class Curl:
    """Not a mount: what one curl takes for the same."""
    name = "curl"

    def __init__(self, bench, service):
        self.bench, self.service = bench, service

    def gets(self):
        return [["-o", "/dev/null", self.service.url_of("big")]]

    def read(self):
        took, cpu, _ = curl(*self.gets())
        return {"read": Value(self.bench.size / MB / took), "cpu": Value(cpu / (self.bench.size / (1 << 30)))}

    def first(self):
        urls = [self.service.url_of(f"first/{i:02d}") for i in range(N_FIRST)]
        took = [float(curl(["-o", "/dev/null", "-w", "%{time_starttransfer}", url])[2][0]) for url in urls]
        return {"first": Value(median(took) * 1000)}

    def write(self):
        words = self.service.curl_upload("out-curl", self.bench.source)
        start = time.perf_counter()
        run(*words)
        took = time.perf_counter() - start
        self.service.remove(["out-curl"])
        return {"write": Value(self.bench.size / MB / took)}


class ParallelCurl(Curl):
    """As many curls as ranges."""
    name = f"curl x{STREAMS}"
    first = write = None

    def gets(self):
        part = math.ceil(self.bench.size / STREAMS)
        url = self.service.url_of("big")
        return [["-o", "/dev/null", "-r", f"{i * part}-{(i + 1) * part - 1}", url] for i in range(STREAMS)]


# ---- cases: (bench, service, a client's class) -> {row: Value}; each mounts for itself


class Mounted:
    """A client mounted for one piece of work; afterwards `told` has its CPU, memory, and calls besides."""

    def __init__(self, cls, bench, service, what):
        self.client, self.what = cls(bench, service), what
        self.size = 3 * bench.size  # a spool, parts at the service, and what they are joined to
        self.told = {}

    def __enter__(self):
        self.client.__enter__()
        touch_memory(self.size)
        return self.client

    def __exit__(self, kind, *rest):
        try:
            if kind is None:
                self.told = {"peak " + self.what: Value(self.client.peak_mb()), "calls " + self.what: self.client.calls()}
                self.cpu_s = self.client.cpu_s()
        finally:
            self.client.__exit__()


def case_read(bench, service, cls):
    mounted = Mounted(cls, bench, service, "read")
    with mounted as client:
        took = client.work("read", client.root / "big", limit_s=LIMIT_S)
    return {"read": rate(bench.size / MB, took), "cpu": Value(mounted.cpu_s / (bench.size / (1 << 30))), **mounted.told}


def case_first(bench, service, cls):
    mounted = Mounted(cls, bench, service, "first")
    with mounted as client:
        took = client.work("first", *(client.root / f"first/{i:02d}" for i in range(N_FIRST)), limit_s=LIMIT_S)
    return {"first": milliseconds(took and median(took)), **mounted.told}


def case_random(bench, service, cls):
    values = {}
    for n_readers, n_each in ((1, 100), (8, 50)):
        n_each = min(n_each, bench.size // RANDOM_BYTES // n_readers)
        mounted = Mounted(cls, bench, service, f"random {n_readers}")
        with mounted as client:
            told = client.work("spread", client.root / "big", n_readers, n_each, RANDOM_BYTES, limit_s=LIMIT_S)
        values[f"random {n_readers}"] = Value(told) if told else rate(n_readers * n_each, None)
        values.update(mounted.told)
    return values


def until_there(is_there, what):
    """Seconds that the service still needs to have it."""
    start = time.perf_counter()
    if is_there():
        return 0
    wait_for(is_there, what)
    return time.perf_counter() - start


def case_write(bench, service, cls):
    key = "out-" + re.sub(r"\W", "", cls.name)
    mounted = Mounted(cls, bench, service, "write")
    try:
        with mounted as client:
            took = client.work("write", bench.source, client.root / key, limit_s=LIMIT_S)
            if took:
                took += until_there(lambda: service.is_there(key, bench.size), f"the service has what {cls.name} wrote")
    finally:
        service.remove([key])
    return {"write": rate(bench.size / MB, took), "cpu write": Value(mounted.cpu_s / (bench.size / (1 << 30))),
            **mounted.told}


def case_files(bench, service, cls):
    prefix = "files-" + re.sub(r"\W", "", cls.name)
    values = {}
    try:
        mounted = Mounted(cls, bench, service, "files write")
        with mounted as client:
            n, took = client.work("fill", bench.small, client.root / prefix, FILES_LIMIT_S, limit_s=2 * LIMIT_S) or (0, 1)
            took += until_there(lambda: service.count(prefix, FILE_BYTES) >= n, f"the service has what {cls.name} wrote")
        values.update({"files write": Value(n / took), **mounted.told})
        mounted = Mounted(cls, bench, service, "files read")
        with mounted as client:
            n, took = client.work("read_all", client.root / prefix, n, FILES_LIMIT_S, limit_s=2 * LIMIT_S) or (0, 1)
        values.update({"files read": Value(n / took), **mounted.told})
    finally:
        service.remove_tree(prefix)
    return values


def case_list(bench, service, cls):
    values = {}
    mounted = Mounted(cls, bench, service, "list")
    with mounted as client:
        for row in ("list cold", "list warm"):
            took = client.work("timed", service.n_many + 1, "ls", "-l", client.root / "many", limit_s=LIMIT_S)
            values[row] = milliseconds(took)
            if took is None:
                break
    values.update(mounted.told)
    mounted = Mounted(cls, bench, service, "find")
    with mounted as client:
        n_lines = service.n_tree + service.n_tree // 1000 + 1
        values["find"] = milliseconds(client.work("timed", n_lines, "find", client.root / "tree", limit_s=LIMIT_S))
    return {**values, **mounted.told}


def case_keys(bench, service, cls):
    mounted = Mounted(cls, bench, service, "keys")
    with mounted as client:
        took = client.work("timed", bench.n_keys + 1, "find", client.root / "many", limit_s=KEYS_LIMIT_S)
    return {"keys": milliseconds(took, KEYS_LIMIT_S), **mounted.told}


CASES = {"read": case_read, "first": case_first, "random": case_random, "write": case_write, "files": case_files,
         "list": case_list, "keys": case_keys}
ROWS = {
    "read": Row("a", "sequential read", "MB/s"),
    "first": Row("b", "first byte", "ms", False),
    "random 1": Row("c", "random 128 KiB, 1 reader", "/s"),
    "random 8": Row("c", "random 128 KiB, 8 readers", "/s"),
    "write": Row("d", "sequential write", "MB/s"),
    "files write": Row("e", "64 KiB files written", "/s"),
    "files read": Row("e", "64 KiB files read", "/s"),
    "list cold": Row("f", "ls -l, cold", "ms", False),
    "list warm": Row("f", "ls -l, warm", "ms", False),
    "find": Row("f", "find", "ms", False),
    "keys": Row("f", "find, one prefix", "ms", False),
    "cpu": Row("g", "CPU a GiB read", "s", False),
    "cpu write": Row("g", "CPU a GiB written", "s", False),
}


# ---- one service at one place


class Sheet:
    """All values of one service at one place: {row: {client: [Value of each run]}}."""

    def __init__(self, bench, service):
        self.bench, self.title = bench, f"{service.name}, {'far' if service.is_far else 'near'}"
        self.is_far = service.is_far
        self.n_listed = {"list": service.n_many, "find": service.n_tree, "keys": service.n_many}
        self.columns = [*(() if service.name == "keys" else (Curl.name, ParallelCurl.name)), *(cls.name for cls in bench.clients(service))]
        self.values, self.calls, self.judged = {}, {}, []

    def take(self, name, told):
        for row, value in told.items():
            if row.startswith("calls "):
                self.calls[row[6:]] = value or self.calls.get(row[6:])
            else:
                self.values.setdefault(row, {}).setdefault(name, []).append(value)

    def head(self):
        print(f"\n{self.title}; lists of {self.n_listed['list']:,} keys, and of {self.n_listed['find']:,}")
        self.line("case", "what", "unit", [*self.columns, "ahead", "target", "ok?"])

    @staticmethod
    def line(letter, text, unit, cells):
        print(f"{letter:4}  {text:27}  {unit:4}  " + "  ".join(f"{cell:>11}" for cell in cells).rstrip(), flush=True)

    def number(self, row, name):
        found = self.values.get(row, {}).get(name)
        return median(value.number for value in found) if found else None

    def cell(self, row, name):
        found = self.values.get(row, {}).get(name)
        if not found:
            return ""
        bound = "" if not found[0].is_bound else "<" if ROWS[row].is_more else ">"
        return bound + show(self.number(row, name), "").strip()

    def ahead(self, row):
        """Of the best peer: the median of the ratios of neighbouring runs. None: there is none."""
        peers = [name for name in self.columns if not name.startswith(("ours", "curl")) and self.number(row, name) is not None]
        ours = self.values[row].get(Ours.name)
        if not peers or not ours:
            return None
        is_more = ROWS[row].is_more
        best = (max if is_more else min)(peers, key=lambda name: self.number(row, name))
        pairs = [(mine, other) for mine, other in zip(ours, self.values[row][best]) if not mine.is_bound or not other.is_bound]
        return median(mine.number / other.number if is_more else other.number / mine.number
                      for mine, other in pairs) if pairs else None

    def show(self, row):
        about, ahead = ROWS[row], self.ahead(row)
        is_ok = self.judge(about.text, None if ahead is None else ahead > 1)
        self.line(about.letter, about.text, about.unit, [
            *(self.cell(row, name) for name in self.columns), "" if ahead is None else f"{ahead:.2f}",
            "" if ahead is None else "1", is_ok])

    def judge(self, text, is_ok):
        if is_ok is None:
            return ""
        self.judged.append((f"{self.title}: {text}", is_ok))
        return "yes" if is_ok else "NO"

    def show_target(self, letter, text, unit, value, target, is_most=False):
        """One of ours, against what is wanted of it."""
        if value is None or Ours.name not in self.columns:
            return
        is_ok = self.judge(text, value <= target if is_most else value >= target)
        cells = ["" for _ in self.columns]
        cells[self.columns.index(Ours.name)] = f"{value:.2f}" if value % 1 else str(value)
        self.line(letter, text, unit, [*cells, "", f"{'<' if is_most else '>'}= {target:g}", is_ok])

    def ratio(self, row, name, other):
        mine, theirs = self.values[row].get(name), self.values[row].get(other)
        return median(a.number / b.number for a, b in zip(mine, theirs)) if mine and theirs else None

    def show_read_targets(self):
        if self.is_far:
            self.show_target("a", f"ours of curl x{STREAMS}", "", self.ratio("read", Ours.name, ParallelCurl.name), 0.8)
        else:
            self.show_target("a", "ours of curl", "", self.ratio("read", Ours.name, Curl.name), 0.35)
            self.show_target("a", "ours, root, of curl", "", self.ratio("read", "ours, root", Curl.name), 0.5)
        self.show_target("g", "CPU a GiB read", "s", self.number("cpu", Ours.name), 1.5, True)

    def show_case(self, case, rows):
        for row in rows:
            if row in ROWS:
                self.show(row)
        if case == "read":
            self.show_read_targets()
        for what in (row[5:] for row in rows if row.startswith("peak ")):
            self.show_peak(what)
            if what in PATH_NAMES and self.calls.get(what):
                n_pages = math.ceil(self.n_listed[what] / 1000)
                self.show_target("f", f"calls of ours, {what}", "", self.calls[what]["list objects"],
                                 n_pages + PATH_NAMES[what], True)
            if self.calls.get(what):
                print(f"      calls of ours, {what}: " + ", ".join(f"{name} {n}" for name, n in self.calls[what].items() if n))

    def show_peak(self, what):
        peaks = [self.number("peak " + what, name) for name in self.columns]
        ours, text = peaks[self.columns.index(Ours.name)] if Ours.name in self.columns else None, f"peak memory, {what}"
        is_ok = self.judge(text, None if ours is None else ours <= MEMORY_MB)
        self.line("h", text, "MB", [*("" if peak is None else f"{peak:.0f}" for peak in peaks), "",
                                    "" if ours is None else f"<= {MEMORY_MB}", is_ok])


def measure(bench, service, sheet, case):
    """All clients in turns."""
    limits = [cls for cls in (Curl, ParallelCurl) if getattr(cls, case, None)]
    todo = limits + [cls for cls in bench.clients(service) if cls.name != "ours, root" or case == "read"]
    rows = []
    for n in range(bench.runs):
        for cls in todo[n % len(todo):] + todo[:n % len(todo)]:
            if cls in bench.given_up:
                continue
            start = time.monotonic()
            try:
                told = getattr(cls(bench, service), case)() if cls in limits else CASES[case](bench, service, cls)
            except (Failed, OSError) as error:
                print(f"contrib/bench: {case}: {cls.name}: {error}", file=sys.stderr)
                bench.status |= cls.name.startswith("ours")
                bench.given_up.add(cls)
                continue
            sheet.take(cls.name, told)
            rows += [row for row in told if row not in rows]
            if time.monotonic() - start > LONG_S:
                bench.given_up.add(cls)
    bench.given_up.clear()
    order = list(ROWS)
    sheet.show_case(case, sorted(rows, key=lambda row: order.index(row) if row in order else len(order)))


# ---- the program


class Bench:
    """What was asked for, and a directory for all that is made."""

    def __init__(self, args, scratch):
        self.scratch = Path(scratch)
        self.peers, self.only, self.chosen, self.runs = args.peers, args.only, args.client, args.runs
        self.size, self.n_many, self.n_tree, self.n_keys = args.size, args.many, args.tree, args.keys
        self.given_up, self.status, self.sheets = set(), 0, []
        self.user = self.make_user() if os.getuid() == 0 else {}
        self.source, self.small = self.scratch / "source", self.scratch / "small"
        self.scratch.chmod(0o755)
        far = args.binary.parent / "tests/bench/far"
        run("ninja", "-C", args.binary.parent, "tests/bench/far")
        for path in (args.binary, far, Path(__file__).parent / "work.py"):
            shutil.copy2(path, self.scratch / path.name)
        write_random(self.source, self.size)
        self.small.mkdir()
        for i in range(min(N_FILES, self.n_many)):
            write_random(self.small / f"file{i:04d}", FILE_BYTES)
        write_random(self.scratch / "first", MB)

    @staticmethod
    def make_user():
        try:
            user = pwd.getpwnam(USER)
        except KeyError:
            run("useradd", "--system", "--no-create-home", "--shell", "/bin/sh", USER)
            user = pwd.getpwnam(USER)
        os.chmod("/dev/fuse", 0o666)  # as Debian has it; in a container it may be for root alone
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def mkdtemp(self, user):
        path = tempfile.mkdtemp(prefix="client.", dir=self.scratch)
        if user:
            os.chown(path, user["user"], user["group"])
        return path

    def objects(self):
        """(key, file) of those that have a content."""
        return [("big", self.source), *((f"first/{i:02d}", self.scratch / "first") for i in range(N_FIRST))]

    def clients(self, service):
        kind = next(name for name, cls in SERVICES.items() if isinstance(service, cls))
        return [CLIENTS[name] for name in self.chosen if kind in CLIENTS[name].services and CLIENTS[name].program(self)
                and (os.getuid() == 0 or not CLIENTS[name].is_root)]

    def cases(self, kind):
        return [case for case in self.only if (case == "keys") == (kind == "keys")]

    def go(self, kind, place):
        with SERVICES[kind](self, place == "far") as service:
            sheet = Sheet(self, service)
            self.sheets.append(sheet)
            sheet.head()
            for case in self.cases(kind):
                measure(self, service, sheet, case)

    def summary(self):
        judged = [row for sheet in self.sheets for row in sheet.judged]
        missed = [text for text, is_ok in judged if not is_ok]
        print(f"\n{len(judged) - len(missed)} of {len(judged)} targets reached" + ("; missed:" if missed else ""))
        for text in missed:
            print(f"  {text}")

    def json(self):
        return [{"at": sheet.title, "calls": sheet.calls, "values": {
            row: {name: [value.number for value in values] for name, values in by_name.items()}
            for row, by_name in sheet.values.items()}} for sheet in self.sheets]


def size(text):
    found = re.fullmatch(r"([0-9]+)([KMG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size: 256M, 1G")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


def some_of(names):
    """The type of an argument: several of them, in their own order; a case may be given by its letter."""
    letters = dict(zip("abcdef", CASES))

    def parse(text):
        wanted = [letters.get(word, word) for word in text.split(",")]
        unknown = [word for word in wanted if word not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; there are: {', '.join(names)}")
        return [name for name in names if name in wanted]
    return parse


def parse_arguments():
    parser = argparse.ArgumentParser(prog="contrib/bench buckets", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=TOP / "build/trainfs", metavar="PATH")
    parser.add_argument("--peers", type=Path, default=TOP / "build-check/peers", metavar="DIR",
                        help="where contrib/peers --bench put them")
    places = ("near", "far")
    for option, names in (("only", CASES), ("client", CLIENTS), ("service", SERVICES), ("place", places)):
        parser.add_argument("--" + option, type=some_of(names), default=list(names), metavar="NAME,...",
                            help=f"some of: {', '.join(names)}")
    parser.add_argument("--size", type=size, default="1G", help="of what is read and written (default: 1G)")
    parser.add_argument("--many", type=int, default=10_000, metavar="N", help="keys that ls -l lists (default: 10000)")
    parser.add_argument("--tree", type=int, default=100_000, metavar="N", help="keys that find finds (default: 100000)")
    parser.add_argument("--keys", type=int, default=1_000_000, metavar="N", help="keys below one prefix (default: 1000000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="measurements a median (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, too")
    args = parser.parse_args()
    args.binary, args.peers = args.binary.resolve(), args.peers.resolve()
    return args


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = tempfile.mkdtemp(prefix="trainfs-bench.")
    try:
        bench = Bench(args, scratch)
        print(f"{args.size / MB:.0f} MB read and written; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        for kind in args.service:
            for place in args.place if kind != "keys" else ("near",):
                if bench.cases(kind):
                    start = time.monotonic()
                    bench.go(kind, place)
                    print(f"      {time.monotonic() - start:.0f} s")
        bench.summary()
        if args.json:
            args.json.write_text(json.dumps(bench.json(), indent=2) + "\n")
        return bench.status
    except Failed as error:
        print(f"contrib/bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
