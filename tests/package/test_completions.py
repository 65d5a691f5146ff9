# SPDX-License-Identifier: MIT
"""Completion as a person sees it: a line is typed into an interactive shell on a terminal, then Tab."""
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

LIMIT = 30  # seconds for a shell to answer
CONFIG = 'remotes:\n  gcp: {type: mem}\n  "1st": {type: mem}\n'

BASH = """\
PS1=
bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 1000'
bind 'set page-completions off'
. /usr/share/bash-completion/bash_completion
report() { printf '%s\\n' "$READLINE_LINE" >>"$REPORT"; READLINE_LINE=; echo "<report>"; }
bind -x '"\\C-g": report'
echo ready >>"$REPORT"; echo "<report>"
"""
ZSH = """\
PS1=
unset zle_bracketed_paste
setopt no_beep no_auto_menu
LISTMAX=1000
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit && compinit -u -d "$HOME/zcompdump"
report() { print -r -- "$BUFFER" >>"$REPORT"; BUFFER=; echo "<report>" >"$TTY"; }
zle -N report
bindkey '^G' report
echo ready >>"$REPORT"; echo "<report>"
"""


class Shell:
    """An interactive shell with the package's completions, in which `trainfs` is the package's."""

    def __init__(self, name, unpacked, home):
        self.home = home
        self.report = home / "report"
        self.report.touch()
        (home / ".config/trainfs").mkdir(parents=True)
        (home / ".config/trainfs/config.yaml").write_text(CONFIG)
        (home / "work").mkdir()
        share = unpacked / "usr/share"
        env = {"HOME": str(home), "ZDOTDIR": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8", "REPORT": str(self.report),
               "PATH": f"{unpacked}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin", "XDG_DATA_DIRS": f"{share}:/usr/share",
               "COMPLETIONS": str(share / "zsh/vendor-completions")}
        (home / ".bashrc").write_text(BASH)
        (home / ".zshrc").write_text(ZSH)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(home / "work")
            os.execvpe(name, [name, "-i"], env)
        self.await_report()

    def close(self):
        os.close(self.terminal)  # SIGHUP
        os.waitpid(self.pid, 0)

    def await_report(self):
        """The next line that the shell reports; what it has shown until then is self.screen."""
        self.screen = ""
        end = time.monotonic() + LIMIT
        while "<report>" not in self.screen:
            if select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                self.screen += os.read(self.terminal, 65536).decode(errors="replace")
            elif time.monotonic() > end:
                pytest.fail(f"the shell does not answer; it shows: {self.screen}")
        return self.report.read_text().splitlines()[-1]

    def complete(self, line):
        """The line after one Tab behind it."""
        os.write(self.terminal, line.encode() + b"\t\x07")
        return self.await_report().rstrip(" ")

    def offers(self, line):
        """The words that are listed when two Tabs leave it undecided."""
        os.write(self.terminal, line.encode() + b"\t\t\x07")
        self.await_report()
        return set(re.findall(r"[\w:=/~.-]+", self.screen))


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request, unpacked, tmp_path_factory):
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param}")
    started = Shell(request.param, unpacked, tmp_path_factory.mktemp(request.param))
    yield started
    started.close()


@pytest.mark.parametrize("typed, expected", [
    ("trainfs unm", "trainfs unmount"),
    ("trainfs --ver", "trainfs --version"),
    ("trainfs mount --fore", "trainfs mount --foreground"),
    ("trainfs unmount --la", "trainfs unmount --lazy"),
    ("trainfs help che", "trainfs help check"),
    ("trainfs check gc", "trainfs check gcp"),
    ("trainfs check 1s", "trainfs check 1st"),
    ("trainfs check -c /dev/null lo", "trainfs check -c /dev/null local"),
    ("trainfs -c /dev/null check gc", "trainfs -c /dev/null check gc"),
    ("trainfs mount gc", "trainfs mount gcp:"),
    ("trainfs mount gcp: /usr/lib/dpk", "trainfs mount gcp: /usr/lib/dpkg/"),
    ("trainfs mount -c /etc/fsta", "trainfs mount -c /etc/fstab"),
    ("trainfs mount -o xa", "trainfs mount -o xattr"),
    ("trainfs mount -o ro,allow", "trainfs mount -o ro,allow_other"),
    ("trainfs mount -o xattr,config=/etc/fsta", "trainfs mount -o xattr,config=/etc/fstab"),
    ("trainfs mount -o ro,setuid=roo", "trainfs mount -o ro,setuid=root"),
    ("trainfs mount -o config=/etc/fstab,xa", "trainfs mount -o config=/etc/fstab,xattr"),
])
def test_completes(shell, typed, expected):
    assert shell.complete(typed).rstrip(",") == expected


def test_offers_the_commands(shell):
    assert {"mount", "unmount", "check", "config", "help"} <= shell.offers("trainfs ")


def test_offers_the_remotes(shell):
    assert {"gcp", "1st", "local"} <= shell.offers("trainfs check ")


def test_offers_each_mount_option_once(shell):
    offered = shell.offers("trainfs mount -o ro,xattr,")
    assert {"allow_other", "auto_unmount", "debug", "noexec"} <= {word.rpartition(",")[2] for word in offered}
    assert "config" in {word.rstrip("=") for word in offered}


def test_every_mount_option_of_the_manual_is_known(shell, unpacked):
    """What is offered is what `trainfs help mount` lists."""
    text = subprocess.run([unpacked / "usr/bin/trainfs", "help", "mount"], capture_output=True, text=True,
                          check=True).stdout
    listed = set(re.findall(r"-o ([a-z_]+)\b(?! \[)", text)) - {"OPTION"}
    assert {"ro", "xattr", "config", "setuid"} <= listed
    offered = {word.rstrip("=") for word in shell.offers("trainfs mount -o ")}
    assert listed <= offered


@pytest.mark.skipif(os.access("/dev/fuse", os.W_OK) is False, reason="no /dev/fuse")
def test_unmount_is_offered_what_is_mounted(shell, unpacked, tmp_path):
    place = tmp_path / "my models"
    place.mkdir()
    program = unpacked / "usr/bin/trainfs"
    env = {**os.environ, "HOME": str(shell.home)}
    if subprocess.run([program, "mount", place], env=env, check=False).returncode != 0:
        pytest.skip("this user cannot mount here")
    try:
        typed = f"trainfs unmount {str(tmp_path)[:-1]}"
        assert shell.complete(typed).rstrip("/") == f"trainfs unmount {tmp_path}/my\\ models"
    finally:
        subprocess.run([program, "unmount", place], env=env, check=True)
