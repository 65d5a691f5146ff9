# SPDX-License-Identifier: MIT
"""Big files that are sent while they are written, over the in-memory backend: what a close finds done, and what goes wrong."""
import errno
import os
import shutil
import signal
import subprocess

import pytest

from conftest import wait_for
from jobtools import Caller
from test_objects import Cloud, err_of, pattern

MIB = 1 << 20
BIG = pattern(8 * MIB, 7) * 5  # five parts
BEGINS = 16 * MIB  # in order, before anything is sent


@pytest.fixture
def cloud(mount, world):
    made = Cloud(mount, world)
    made.mount()
    yield made
    made.rules()


def transfers(cloud):
    """{key: (phase, bytes, total, error)}"""
    rows = [line.split("\t") for line in (cloud.m / "far/transfers.tsv").read_text().splitlines()]
    assert rows[0] == ["kind", "name", "phase", "bytes", "total", "error"]
    return {row[1].removeprefix("b/"): (row[2], int(row[3]), int(row[4]), row[5]) for row in rows[1:] if row[0] == "object"}


def sent(cloud, key="f"):
    return transfers(cloud).get(key, ("", 0, 0, ""))[1]


def begin(cloud, name="f", n=len(BIG)):
    """An open file of n bytes, some of which are at the service."""
    f = open(cloud.b / name, "wb", buffering=0)
    f.write(BIG[:n])
    wait_for(lambda: sent(cloud, name) >= BEGINS, what="it is sent while it is written")
    return f


def there(cloud):
    """What the service has, told by another mount of it."""
    wait_for(lambda: cloud.pending() == [], what="all is delivered")
    cloud.m.kill()
    cloud.m.force_down()
    cloud.mount()
    return {name: (cloud.b / name).read_bytes() for name in sorted(os.listdir(cloud.b))}


def test_a_big_file_is_sent_while_it_is_written(cloud):
    with cloud.cost() as spent:
        f = begin(cloud)
        phase, n, total, error = transfers(cloud)["f"]
        assert (phase, total, error) == ("sending", len(BIG), "") and n <= total
        assert (cloud.b / "f").read_bytes() == BIG
        f.write(b"the end")
        f.close()
    assert spent["put object"] == 1 and transfers(cloud) == {}
    assert there(cloud) == {"f": BIG + b"the end"}


@pytest.mark.parametrize("change", ["write", "truncate", "empty"])
def test_what_was_sent_already_is_changed(cloud, change):
    f = begin(cloud)
    wanted = bytearray(BIG)
    if change == "write":
        os.pwrite(f.fileno(), b"head", 5)
        wanted[5:9] = b"head"
    elif change == "truncate":
        f.truncate(9 * MIB + 1)
        del wanted[9 * MIB + 1:]
    else:
        f.truncate(0)
        wanted = b""
    f.close()
    assert there(cloud) == {"f": bytes(wanted)}


def test_what_comes_behind_may_be_written_in_any_order(cloud):
    with cloud.cost() as spent:
        f = begin(cloud)
        os.pwrite(f.fileno(), b"far", 60 * MIB)
        os.pwrite(f.fileno(), b"near", 50 * MIB)
        f.close()
    assert spent["put object"] == 1
    assert there(cloud) == {"f": BIG + bytes(10 * MIB) + b"near" + bytes(10 * MIB - 4) + b"far"}


def test_fsync_and_more(cloud):
    f = begin(cloud)
    os.fsync(f.fileno())
    assert cloud.calls()["put object"] == 1
    f.write(BIG)
    f.close()
    assert there(cloud) == {"f": BIG * 2}


def test_the_network_goes_and_comes_back_meanwhile(cloud):
    """Every fourth part is lost. Of five, the close sends the two that are missing; sent anew one would be lost again."""
    cloud.rules("object-part fail EHOSTUNREACH every 4")
    f = begin(cloud)
    wait_for(lambda: transfers(cloud)["f"][0] == "open", what="the attempt has failed")
    assert sent(cloud) == 24 * MIB
    f.close()
    assert there(cloud) == {"f": BIG}


def test_the_network_stays_away(cloud):
    f = begin(cloud)
    cloud.rules("object-part fail EHOSTUNREACH")
    f.write(BIG)
    assert err_of(f.close) == errno.EHOSTUNREACH
    phase, n, total, error = transfers(cloud)["f"]
    assert phase == "waiting" and total == 2 * len(BIG) and BEGINS <= n < total and "as the test wanted" in error
    cloud.rules()
    assert there(cloud) == {"f": BIG * 2}


def test_somebody_else_changes_it_meanwhile(cloud):
    f = begin(cloud)
    cloud.happens("object b put f theirs")
    assert err_of(f.close) == errno.ESTALE
    kept = cloud.pending()
    assert [p.read_bytes() for p in kept] == [BIG] and str(kept[0]) in cloud.m.errors()
    cloud.refresh()
    assert (cloud.b / "f").read_bytes() == b"theirs\n"


def test_kill_meanwhile(cloud):
    (cloud.b / "f").write_text("old")
    f = begin(cloud)
    cloud.m.kill()
    cloud.m.force_down()
    assert err_of(f.close) == errno.ENOTCONN
    cloud.mount()
    assert (cloud.b / "f").read_text() == "old"
    kept = cloud.pending()
    assert [p.read_bytes() for p in kept] == [BIG] and str(kept[0]) in cloud.m.errors()


def test_kill_while_the_end_is_sent(cloud):
    cloud.rules("object-part hang 3600000")
    caller = Caller("f = open(argv[0], 'wb'); f.write(bytes(20 << 20)); f.close()", cloud.b / "f")
    wait_for(lambda: any('"complete": true' in p.read_text() for p in cloud.world.data.rglob("pending/*/*.json")))
    caller.wait_blocked()
    cloud.m.kill()
    cloud.m.force_down()
    caller.kill()
    cloud.rules()
    cloud.mount()
    assert there(cloud) == {"f": bytes(20 * MIB)}


def test_what_hangs_at_the_end_is_named_and_sent_by_the_next_mount(cloud):
    """The second SIGTERM stands for the end of the time that a daemon gives to what is on its way."""
    cloud.rules("object-put hang 3600000")
    caller = Caller("f = open(argv[0], 'w'); f.write('kept'); f.close()", cloud.b / "f")
    wait_for(lambda: transfers(cloud).get("f", ("",))[0] == "sending")
    caller.wait_blocked()
    cloud.m.signal(signal.SIGTERM)
    assert caller.result()[-1] != "0"
    cloud.m.signal(signal.SIGTERM)
    assert cloud.m.wait() == 0
    kept = cloud.pending()
    assert len(kept) == 1 and f"b/f could not be delivered; its bytes are in {kept[0]}" in cloud.m.log()
    cloud.rules()
    cloud.mount()
    assert there(cloud) == {"f": b"kept"}


def test_many_are_open_and_one_is_closed(cloud):
    """What is sent while it is written may last for ever; that holds up nothing that is complete."""
    cloud.rules("object-part delay 50")
    files = [open(cloud.b / f"f{i}", "wb", buffering=0) for i in range(9)]
    for f in files:
        f.write(BIG[:17 * MIB])
    (cloud.b / "last").write_bytes(BIG[:17 * MIB])
    for f in files:
        f.close()
    cloud.rules()
    assert all(data == BIG[:17 * MIB] for data in there(cloud).values())


def test_rename_meanwhile(cloud):
    f = begin(cloud)
    os.rename(cloud.b / "f", cloud.b / "g")
    f.write(b"more")
    f.close()
    assert there(cloud) == {"g": BIG + b"more"}


def test_unlink_meanwhile(cloud):
    f = begin(cloud)
    os.unlink(cloud.b / "f")
    f.write(b"more")
    f.close()
    assert there(cloud) == {}


@pytest.mark.parametrize("is_anew", [False, True])
def test_unlink_does_not_wait_for_what_is_sent(cloud, is_anew):
    """The upload ends behind, and what comes of it goes, before a new file of that name is sent."""
    cloud.rules("object-put delay 3600000")
    caller = Caller("open(argv[0], 'w').write('unwanted')", cloud.b / "f")
    caller.wait_blocked()
    wait_for(lambda: transfers(cloud).get("f", ("",))[0] == "sending")
    subprocess.run(["rm", cloud.b / "f"], timeout=25, check=True)
    assert os.listdir(cloud.b) == []
    if is_anew:
        anew = Caller("f = open(argv[0], 'w'); f.write('anew'); f.close()", cloud.b / "f")
        wait_for(lambda: transfers(cloud).get("f", ("",))[0] == "queued")
    cloud.rules()
    if is_anew:
        assert anew.result()[-1] == "0"
    assert there(cloud) == ({"f": b"anew"} if is_anew else {})


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
def test_no_room_meanwhile(mount, world):
    small = world.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", small], check=True)
    try:
        cloud = Cloud(mount, world, state_dir=small / "far")
        cloud.mount()
        f = begin(cloud)
        assert err_of(lambda: [f.write(bytes(MIB)) for _ in range(100)]) == errno.ENOSPC
        os.unlink(cloud.b / "f")
        f.close()
        wait_for(lambda: shutil.disk_usage(small).free > 16 * MIB, what="its upload is ended, behind, and its room is free again")
        (cloud.b / "h").write_text("room again")
        assert there(cloud) == {"h": b"room again"}
        cloud.m.unmount()
    finally:
        subprocess.run(["umount", "-l", small], check=True)
