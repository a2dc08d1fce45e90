"""Hosts for a cluster on one machine: network namespaces on one bridge, or just folders.

In a namespace a host has an address of its own, and can be cut off, made deaf to another, slowed
down, killed with all that runs on it. Where namespaces are not allowed, hosts are folders on
127.0.0.1: agents can be killed and hung there, and what needs a network of their own says
:class:`NotHereError`. There is no netem in many kernels, so packets are lost or late in bulk only
(:meth:`Host.lossy`, :meth:`Host.slow`).

Everything has the process id of its maker in its name. It is removed when the context is left, at
the exit of the interpreter, and, after a SIGKILL, by the next lab on the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness.daemon import PATIENCE_S, ROTA, Daemon, is_alive, wait_until
from tests.harness.rest import Rest

RUN_NETNS = Path("/run/netns")
TAG = "rl"
PORT = 7070
SKEW_SOURCE = Path(__file__).with_name("skew.c")
#: A hardware address that nobody has: what is sent there is lost without a word.
NOBODY = "02:00:00:00:00:01"

_numbers = itertools.count()


class NotHereError(Exception):
    """This machine, or this kind of lab, cannot do what was asked; the message says why."""


class Host(Daemon):
    """One machine of the lab, with or without an agent on it."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        super().__init__(lab.folder / name / "data")
        self.lab, self.name, self.number = lab, name, number
        self.address = f"{lab.net}.{number + 10}" if lab.net else "127.0.0.1"
        self.port = PORT if lab.net else free_port()
        self.space = f"{lab.tag}n{number}" if lab.net else ""
        self.slots = 2
        self.labels = ""
        self.source: Path | None = None  # the code that runs here; None is this one
        self.is_cut = False
        self.deaf: set[str] = set()
        self._skew: Path | None = None
        self.data.mkdir(parents=True)

    def __repr__(self) -> str:
        return self.name

    # -- the agent ------------------------------------------------------------------------------

    def start(self, *, join: str = "", within_s: float = 60.0) -> None:
        """Start the agent, as a new member with a token; return when it takes builds."""
        done = self.run(*self._agent(join), "--daemon", within_s=within_s)
        assert done.returncode == 0, f"{self.name}: {done.stderr}\n{self.end_of_log()}"

    def start_soon(self) -> subprocess.Popen[bytes]:
        """Start the agent without waiting for it; wait for the process that is returned."""
        return subprocess.Popen(
            self.argv(str(ROTA), *self._agent(""), "--daemon"),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _agent(self, join: str) -> list[str]:
        options = ["agent", "--data", str(self.data), "--name", self.name]
        options += ["--listen", f"{self.address}:{self.port}", "--slots", str(self.slots)]
        if self.labels:
            options += ["--labels", self.labels]
        return [*options, "--join", join] if join else options

    @property
    def is_up(self) -> bool:
        """Whether there is a daemon that answers to its process id."""
        try:
            return is_alive(self.pid)
        except (OSError, ValueError):
            return False

    def token(self) -> str:
        """Return a new token for a machine that is to join."""
        return self.ok("token", "create").split()[-1]

    def end_of_log(self, lines: int = 30) -> str:
        """Return the last lines of the daemon's log."""
        path = self.data / "agent.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- asking it ------------------------------------------------------------------------------

    def argv(self, *command: str) -> list[str]:
        """Return the command that runs ``command`` on this host."""
        # Not `ip netns exec`: that mounts another /sys, and the cgroups are gone.
        return [*(["nsenter", f"--net={RUN_NETNS / self.space}"] if self.space else []), *command]

    def run(
        self,
        *args: str,
        stdin: str = "",
        env: dict[str, str] | None = None,
        within_s: float = 90.0,
    ) -> Any:
        """Run a ``rota`` command here; return the finished process with text output."""
        return self.execute([str(ROTA), *args], stdin=stdin, env=env, within_s=within_s)

    def execute(
        self,
        command: Sequence[str],
        *,
        stdin: str = "",
        env: dict[str, str] | None = None,
        within_s: float = 90.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run any command here; return the finished process with text output."""
        return subprocess.run(
            self.argv(*command),
            input=stdin,
            env={**self._environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a ``rota`` command here."""
        return subprocess.Popen(self.argv(str(ROTA), *args), env=self._environment(), **more)

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ROTA_")}
        if self._skew is not None:
            clean |= {"LD_PRELOAD": str(self.lab.skew_library()), "SKEW_FILE": str(self._skew)}
        if self.source is not None:
            clean["PYTHONPATH"] = str(self.source)
        return {**clean, "ROTA_DATA": str(self.data)}

    def rest(self, timeout_s: float = 10.0) -> Rest:
        """Return a client of its Unix socket: as if somebody sat at that machine."""
        return Rest(self.data / "rota.sock", timeout_s=timeout_s)

    @property
    def token_text(self) -> str:
        """The token that callers over TCP show it."""
        return (self.data / "token").read_text().strip()

    # -- kill, hang -----------------------------------------------------------------------------

    def processes(self) -> list[int]:
        """Return all that runs on this host: daemon, engine, supervisors, scripts."""
        belongs = self._is_in_space() if self.space else self._is_in_folder
        return [pid for pid in _all_processes() if pid != os.getpid() and belongs(pid)]

    def _is_in_space(self) -> Callable[[int], bool]:
        inode = _inode_of(RUN_NETNS / self.space)
        return lambda pid: inode != 0 and _inode_of(Path(f"/proc/{pid}/ns/net")) == inode

    def _is_in_folder(self, pid: int) -> bool:
        here = os.fsencode(self.data)
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                if here in Path(f"/proc/{pid}/{name}").read_bytes():
                    return True
        return False

    def victims(self, who: str) -> list[int]:
        """Return process ids: of the ``daemon``, the ``engine``, ``both``, or the whole ``host``."""
        if who == "host":
            return self.processes()
        found: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            if who in ("daemon", "both"):
                found.append(self.pid)
        with contextlib.suppress(OSError, ValueError, KeyError):
            if who in ("engine", "both"):
                found.append(self.engine_pid)
        return [pid for pid in found if pid > 0 and is_alive(pid)]

    def send(self, who: str, number: int) -> list[int]:
        """Send a signal to a part of what runs here; return whom it was sent to."""
        victims = self.victims(who)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return victims

    def slay(self, who: str = "daemon") -> list[int]:
        """SIGKILL a part of the host, and return once it is gone."""
        gone: list[int] = []
        # What is started meanwhile, such as a script by its supervisor, is to go too.
        while victims := self.send(who, signal.SIGKILL):
            gone += victims
            for pid in victims:
                wait_until(f"{pid} is gone", functools.partial(_is_gone, pid))
            if who != "host":
                break
        return gone

    def freeze(self, who: str = "both") -> None:
        """SIGSTOP a part of the host."""
        self.send(who, signal.SIGSTOP)

    def thaw(self, who: str = "host") -> None:
        """SIGCONT a part of the host."""
        self.send(who, signal.SIGCONT)

    # -- the network ----------------------------------------------------------------------------

    def cut(self) -> None:
        """Lose every packet to and from this host, without a word: pulled plug, dead switch."""
        self._need_space("be cut off")
        ip("link", "set", self._link, "down")
        self.is_cut = True

    def heal(self) -> None:
        """Undo :meth:`cut`, :meth:`mute`, :meth:`lossy` and :meth:`slow` on this host."""
        self._need_space("be cut off")
        ip("link", "set", self._link, "up")
        self.is_cut = False
        for name in list(self.deaf):
            self.unmute(self.lab.host(name))
        self.execute(["iptables", "-F", "INPUT"]) if shutil.which("iptables") else None
        self.execute(["tc", "qdisc", "del", "dev", "eth0", "root"])

    def mute(self, other: Host) -> None:
        """Lose what this host sends to ``other``; what comes back is not touched: one way."""
        self._need_space("lose packets in one direction")
        arguments = ("lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
        ip("-n", self.space, "neigh", "replace", other.address, *arguments)
        self.deaf.add(other.name)

    def unmute(self, other: Host) -> None:
        """Undo :meth:`mute`."""
        ip("-n", self.space, "neigh", "del", other.address, "dev", "eth0", check=False)
        self.deaf.discard(other.name)

    def lossy(self, share: float) -> None:
        """Lose this share of the packets that come in, by chance."""
        self._need_space("lose packets")
        if not shutil.which("iptables"):
            raise NotHereError("iptables is not installed, which loses packets by chance")
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
        done = self.execute(["iptables", "-A", "INPUT", *chance, "-j", "DROP"])
        if done.returncode:
            raise NotHereError(f"iptables cannot lose packets here: {done.stderr.strip()}")

    def slow(self, rate: str = "2mbit") -> None:
        """Let through no more than so much of what this host sends; the rest waits up to 0.4 s."""
        self._need_space("be slowed down")
        queue = ("tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        done = self.execute(["tc", "qdisc", "replace", "dev", "eth0", "root", *queue])
        if done.returncode:
            raise NotHereError(f"tc cannot slow down here: {done.stderr.strip()}")

    @property
    def _link(self) -> str:
        return f"{self.lab.tag}v{self.number}"

    def _need_space(self, what: str) -> None:
        if not self.space:
            raise NotHereError(f"a host without a network namespace cannot {what}")

    # -- the clock, the disk --------------------------------------------------------------------

    def skewable(self) -> None:
        """Let :meth:`skew` work on what is started here from now on."""
        self.lab.skew_library()
        self._skew = self.lab.folder / self.name / "skew"
        self._skew.write_bytes(struct.pack("q", 0))

    def skew(self, seconds: float) -> None:
        """Move the wall clock of all that runs here, at once; the engine's own is left as it is."""
        assert self._skew is not None, "ask for skewable() before the agent starts"
        with self._skew.open("r+b") as file:
            file.write(struct.pack("q", int(seconds * 1e9)))

    def small_disk(self, megabytes: int) -> None:
        """Put the data folder, empty so far, on a file system of this size.

        Raises:
            NotHereError: this machine does not allow to mount.
        """
        options = ("-t", "tmpfs", "-o", f"size={megabytes}m", self.lab.tag, str(self.data))
        if os.geteuid() != 0 or subprocess.run(["mount", *options], check=False).returncode:
            raise NotHereError("this machine does not allow to mount a small file system")

    def fill_disk(self) -> None:
        """Leave not one free block in the data folder."""
        with contextlib.suppress(OSError), (self.data / "filler").open("wb", buffering=0) as file:
            while file.write(b"\1" * (1 << 20)):
                pass

    def free_disk(self) -> None:
        """Undo :meth:`fill_disk`."""
        (self.data / "filler").unlink(missing_ok=True)


class Lab:
    """Hosts, made as they are needed; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, *, spaces: bool | None = None) -> None:
        """Make an empty lab; without ``spaces`` it has namespaces if the machine allows them."""
        sweep()
        reason = no_spaces()
        if spaces and reason:
            raise NotHereError(reason)
        self.folder = folder
        self.hosts: list[Host] = []
        self.tag = f"{TAG}{os.getpid()}{chr(ord('a') + next(_numbers) % 26)}"
        self.net = ""
        self._claim: socket.socket | None = None
        self._library: Path | None = None
        if spaces if spaces is not None else not reason:
            self.net, self._claim = _claim_net()
            self._bridge()

    def _bridge(self) -> None:
        name = f"{self.tag}b"
        ip("link", "add", name, "type", "bridge")
        ip("addr", "add", f"{self.net}.1/24", "dev", name)  # to look in from outside
        ip("link", "set", name, "up")
        _let_through(name)

    def __enter__(self) -> Lab:
        atexit.register(self.close)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        atexit.unregister(self.close)

    def add(self, name: str = "") -> Host:
        """Return a new host, without an agent."""
        number = len(self.hosts)
        host = Host(self, name or f"h{number + 1}", number)
        if self.net:
            self._plug(host)
        self.hosts.append(host)
        return host

    def _plug(self, host: Host) -> None:
        link = f"{self.tag}v{host.number}"
        ip("netns", "add", host.space)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.space)
        ip("link", "set", link, "master", f"{self.tag}b", "up")
        ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", host.space, "link", "set", device, "up")

    def host(self, name: str) -> Host:
        """Return a host by its name."""
        return next(host for host in self.hosts if host.name == name)

    def cluster(self, count: int, slots: int = 2) -> list[Host]:
        """Add hosts, and make them one cluster: the first by itself, the others by its tokens."""
        new = [self.add() for _ in range(count)]
        for host in new:
            host.slots = slots
            self.join(host)
        return new

    def join(self, host: Host) -> None:
        """Start a host's first agent: as a member of the cluster, if there is one."""
        member = next((h for h in self.hosts if h is not host and h.is_up and not h.is_cut), None)
        host.start(join=member.token() if member else "")

    def split(self, *groups: Iterable[Host]) -> None:
        """Let hosts of different groups not reach each other; :meth:`heal` undoes it."""
        for one, other in itertools.permutations([list(group) for group in groups], 2):
            for host, peer in itertools.product(one, other):
                host.mute(peer)

    def heal(self) -> None:
        """Let every host reach every other again."""
        for host in self.hosts:
            if host.space:
                host.heal()

    def skew_library(self) -> Path:
        """Return the library that moves clocks, made by the machine's compiler.

        Raises:
            NotHereError: there is no compiler.
        """
        if self._library is None:
            path = self.folder / "skew.so"
            compiler = shutil.which("cc") or shutil.which("gcc")
            if compiler is None:
                raise NotHereError("there is no C compiler, which makes what moves clocks")
            made = ["-shared", "-fPIC", "-O2", "-o", str(path), str(SKEW_SOURCE), "-ldl"]
            subprocess.run([compiler, *made], check=True, capture_output=True)
            self._library = path
        return self._library

    def close(self) -> None:
        """End all processes of all hosts, and take the hosts away. Safe to call twice."""
        for host in self.hosts:
            with contextlib.suppress(AssertionError):
                host.thaw("host")
                host.slay("host")
        _unmount(self.tag)
        _take_away(self.tag)
        self.hosts.clear()
        if self._claim is not None:
            self._claim.close()


@contextlib.contextmanager
def lab(folder: Path | None = None, *, spaces: bool | None = None) -> Iterator[Lab]:
    """A lab in ``folder``, or in a temporary one of its own."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rota-lab-")))
        yield stack.enter_context(Lab(folder, spaces=spaces))


# -- the machine ----------------------------------------------------------------------------------


def ip(*arguments: str, check: bool = True) -> str:
    """Run `ip`; return what it prints.

    Raises:
        NotHereError: it failed, and ``check`` is set.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise NotHereError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _let_through(bridge: str, *, ends: bool = False) -> None:
    """Let frames cross a bridge, or no more.

    A Docker on this machine has the kernel's filter look at what crosses bridges, and drop it.
    """
    if shutil.which("iptables"):
        rule = ["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]
        subprocess.run(
            ["iptables", "-w", "-D" if ends else "-I", *rule], capture_output=True, check=False
        )


def no_spaces() -> str:
    """Return why this machine has no network namespaces for us; nothing if it has."""
    if not shutil.which("ip") or not shutil.which("nsenter"):
        return "network namespaces need the programs ip and nsenter"
    name = f"{TAG}{os.getpid()}x{next(_numbers)}"
    try:
        ip("netns", "add", name)
        ip("link", "add", f"{name}b", "type", "bridge")
    except NotHereError as error:
        return f"network namespaces are not allowed here ({error})"
    finally:
        ip("link", "del", f"{name}b", check=False)
        ip("netns", "del", name, check=False)
    return ""


def _claim_net() -> tuple[str, socket.socket]:
    """Return the first three bytes of a network that nobody uses, held as long as we live."""
    taken = ip("-o", "-4", "addr")
    for third in range(1, 255):
        # A name in the kernel's own space: it is gone with its last holder, however that ended.
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        net = f"10.77.{third}"
        try:
            claim.bind(f"\0rota-lab-{net}")
        except OSError:
            claim.close()
            continue
        if f" {net}." not in taken:
            return net, claim
        claim.close()
    raise NotHereError("all networks of 10.77.0.0/16 are taken")


def sweep() -> None:
    """Take away what labs left whose makers are dead."""
    tags = {name for name in _names() if not is_alive(_maker(name))}
    for tag in {f"{TAG}{_maker(name)}" for name in tags}:
        _unmount(tag)
        _take_away(tag)


def _names() -> list[str]:
    """Return the names of all namespaces and links of labs."""
    spaces = [path.name for path in RUN_NETNS.iterdir()] if RUN_NETNS.is_dir() else []
    links = [path.name for path in Path("/sys/class/net").iterdir()]
    return [name for name in [*spaces, *links] if name.startswith(TAG) and _maker(name)]


def _maker(name: str) -> int:
    digits = "".join(itertools.takewhile(str.isdigit, name.removeprefix(TAG)))
    return int(digits or 0)


def _take_away(tag: str) -> None:
    """Remove namespaces with all that runs in them, and links, whose names begin so."""
    for name in _names():
        if name.startswith(tag) and (RUN_NETNS / name).exists():
            inode = _inode_of(RUN_NETNS / name)
            for pid in _all_processes():
                if inode and _inode_of(Path(f"/proc/{pid}/ns/net")) == inode:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            ip("netns", "del", name, check=False)
    for name in _names():
        if name.startswith(tag):
            ip("link", "del", name, check=False)
            _let_through(name, ends=True)


def _unmount(tag: str) -> None:
    for line in Path("/proc/mounts").read_text().splitlines():
        source, place, *_ = line.split()
        if source.startswith(tag):
            subprocess.run(["umount", "-l", place], check=False)


def _is_gone(pid: int) -> bool:
    return not is_alive(pid)


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def leaders(hosts: Iterable[Host]) -> set[str]:
    """Return who leads, as those hosts that answer see it."""
    found = set()
    for host in hosts:
        with contextlib.suppress(OSError), host.rest(2.0) as rest:
            found.add(str(rest.call("GET", "/v1/status")["leader"]))
    return found - {""}


def leader(hosts: Sequence[Host], patience_s: float = PATIENCE_S) -> Host:
    """Return the host of the leader, once all that answer agree on one that lives."""

    def look() -> Host | None:
        names = leaders(hosts)
        found = [host for host in hosts if names == {host.name} and host.is_up]
        return found[0] if found else None

    return wait_until("there is one leader", look, patience_s)


def until_settled(hosts: Sequence[Host], patience_s: float = 60.0) -> None:
    """Wait until nothing is queued or runs, as every one of the hosts sees it."""
    deadline = time.monotonic() + patience_s
    for host in hosts:

        def quiet(host: Host = host) -> bool:
            with contextlib.suppress(OSError), host.rest(5.0) as rest:
                live = rest.call("GET", "/v1/builds?state=live&limit=1")
                return not live
            return False

        left = max(1.0, deadline - time.monotonic())
        wait_until(f"{host.name} has nothing to do", quiet, left)


def heads(host: Host) -> dict[str, str]:
    """Return the commits of main and history in a host's store."""
    refs = {}
    for ref in ("main", "history"):
        git = ["git", "-C", str(host.data / "store.git"), "rev-parse", "--verify", "-q", ref]
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        refs[ref] = done.stdout.strip()
    return refs


def dump(value: object) -> str:
    """Return any value as one line, for a message."""
    return json.dumps(value, default=str, sort_keys=True)
