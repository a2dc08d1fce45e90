"""A cluster under load, and the hand that breaks it: what happens, and when, follows from a seed.

What the load asks, and when, depends on how fast the machine is; which faults befall which hosts,
in which order and how far apart, does not.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import http.client
import itertools
import json
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness.checker import Ack, Event, Evidence, LogRead, gather
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, NotHereError
from tests.harness.load import script
from tests.harness.rest import RefusedError, Told

#: An answer that takes longer is none; the trigger is sent again, with the same key.
ANSWER_S = 6.0
#: A trigger that nobody took for so long is given up.
GIVE_UP_S = 60.0
START_S = 60.0
#: Lines that a script prints, and how long it sleeps after each: most are short, some outlive faults.
SIZES = [(1, "0"), (20, "0.01"), (300, "0"), (20, "0.1"), (100, "0.1")]
WEIGHTS = [30, 30, 20, 8, 3]


class Load:
    """Triggers, followers, pushes and cancels at agents by chance, until it is told to stop.

    ``hosts`` may change while it runs. What it was told stands in ``acks``, ``logs`` and
    ``followed``; ``answers_s`` has (when, how long) of each acknowledged trigger.
    """

    def __init__(self, lab: Lab, seed: int, *, pause_s: float = 0.15, triggers: int = 2) -> None:
        self.lab, self.pause_s = lab, pause_s
        self.hosts: list[Host] = list(lab.hosts)
        self.marks = lab.folder / "marks"
        self.marks.mkdir(exist_ok=True)
        self.acks: list[Ack] = []
        self.logs: list[LogRead] = []
        self.followed: dict[str, list[int]] = {}
        self.journal: dict[int, Event] = {}
        self.answers_s: list[tuple[float, float]] = []
        self.refusals: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.given_up = self.pushes = self.cancels = 0
        self._over = threading.Event()
        self._seeds = random.Random(seed)
        # Two loads of one seed on one cluster must not mean each other's builds.
        self._nonce = secrets.token_hex(4)
        works: list[Callable[[random.Random, str], None]] = [self._trigger] * triggers
        works += [self._follow_events] * 2
        works += [self._follow_logs] * 2
        works += [self._follow_by_command, self._change, self._push, self._cancel]
        self._threads = [
            threading.Thread(target=self._run, args=(work, f"{work.__name__[1:]} {number}"))
            for number, work in enumerate(works)
        ]

    def begin(self) -> None:
        """Add the jobs, and begin."""
        jobs = {"work": script(self.marks), "alone": script(self.marks, exclusive=True)}
        for job, text in jobs.items():
            with self.hosts[0].rest(30.0) as rest:
                rest.call("PUT", f"/v1/jobs/{job}", text.encode())
        for host in self.hosts:
            wait_until(f"{host} knows the jobs", functools.partial(_knows, host, set(jobs)))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop asking, and return when nothing of it runs any more."""
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, work: Callable[[random.Random, str], None], name: str) -> None:
        chance = random.Random(self._seeds.random())
        try:
            while not self._over.is_set():
                work(chance, name)
        except Exception as error:
            self.faults.append(f"the load's {name} itself failed: {error!r}")
            raise

    def _any(self, chance: random.Random) -> Host:
        return chance.choice(self.hosts)

    # -- triggers -------------------------------------------------------------------------------

    def _trigger(self, chance: random.Random, name: str) -> None:
        """Request one build, at one agent after the other, until one has taken it."""
        job = chance.choice(["work", "work", "work", "alone"])
        lines, pause = chance.choices(SIZES, weights=WEIGHTS)[0]
        params = {"lines": lines, "pause": pause, "status": chance.choice([0, 0, 0, 1])}
        body = {"params": params, "key": f"{self._nonce} {name} {chance.random()}"}
        asked = time.monotonic()
        while not self._over.is_set():
            host = self._any(chance)
            try:
                with host.rest(ANSWER_S) as rest:
                    build = rest.call("POST", f"/v1/jobs/{job}/builds", body)
            except (OSError, RefusedError) as error:
                self._refused(error)
                if time.monotonic() - asked > GIVE_UP_S:
                    self.given_up += 1
                    break
                self._over.wait(0.1)
                continue
            self.answers_s.append((time.monotonic(), time.monotonic() - asked))
            self.acks.append(Ack(build["id"], job, build["number"], host.name))
            break
        self._over.wait(chance.uniform(0, 2 * self.pause_s))

    def _refused(self, error: Exception) -> None:
        name = str(error.status) if isinstance(error, RefusedError) else type(error).__name__
        self.refusals[name] += 1
        if (
            isinstance(error, RefusedError)
            and error.status < 500
            and error.status not in (401, 403)
        ):
            self.faults.append(f"a good trigger was refused: {error}")

    # -- followers ------------------------------------------------------------------------------

    def _follow_events(self, chance: random.Random, name: str) -> None:
        """Follow the journal from where the last agent broke off."""
        seen = self.followed.setdefault(name, [])
        host = self._any(chance)
        try:
            with host.rest(ANSWER_S) as rest:
                after = seen[-1] if seen else 0
                for told in rest.events(f"/v1/events?follow=true&after={after}"):
                    self._seen(seen, told)
                    # Now and then it goes elsewhere by itself.
                    if self._over.is_set() or chance.random() < 0.002:
                        return
        except (OSError, RefusedError):
            self._over.wait(0.1)

    def _seen(self, seen: list[int], told: Told) -> None:
        if told.event == "gap":
            self.faults.append(f"a follower was told of a gap: {told.data}")
        if told.event not in ("gap", "error"):
            event = json.loads(told.data)
            seen.append(event["seq"])
            self.journal[event["seq"]] = event

    def _follow_logs(self, chance: random.Random, name: str) -> None:
        """Follow the first attempt's log of a build, from agent to agent, to its end."""
        if not self.acks:
            self._over.wait(0.1)
            return
        ack = chance.choice(self.acks[-5:])
        data, whole, began = b"", False, time.monotonic()
        while not whole and not self._over.is_set() and time.monotonic() - began < GIVE_UP_S:
            target = f"/v1/builds/{ack.build}/log?follow=true&attempt=1&offset={len(data)}"
            host = self._any(chance)
            with (
                contextlib.suppress(OSError, RefusedError),
                host.rest(ANSWER_S) as rest,
                rest.open("GET", target) as answer,
            ):
                for piece in pieces(answer):
                    data += piece
                whole = answer.isclosed()
            self._over.wait(0.05)
        self.logs.append(LogRead(name, ack.build, 1, data, whole=False))

    def _follow_by_command(self, chance: random.Random, name: str) -> None:
        """Follow a log with the product's own command, which moves on by itself."""
        if not self.acks:
            self._over.wait(0.1)
            return
        ack, host = chance.choice(self.acks[-3:]), self._any(chance)
        command = ("log", ack.build, "--attempt", "1", "-f")
        with host.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            began = time.monotonic()
            while process.poll() is None and time.monotonic() - began < GIVE_UP_S:
                if self._over.wait(0.1):
                    break
            process.kill()
            assert process.stdout is not None
            data = process.stdout.read()
        self.logs.append(LogRead(f"rota log -f on {host}", ack.build, 1, data, whole=False))
        self._over.wait(0.5)

    # -- definitions, cancels -------------------------------------------------------------------

    def _change(self, chance: random.Random, name: str) -> None:
        """Put a job at some agent: two who do that at once must not lose either's."""
        text = f"#!/bin/sh\necho {chance.random()}\n".encode()
        with contextlib.suppress(OSError, RefusedError), self._any(chance).rest(ANSWER_S) as rest:
            rest.call("PUT", f"/v1/jobs/put/{chance.randrange(5)}", text)
        self._over.wait(chance.uniform(0, 3))

    def _push(self, chance: random.Random, name: str) -> None:
        """Change a job by `git push` to some agent, from a clone of some other."""
        folder = self.lab.folder / "clones" / f"{self._nonce}-{self.pushes}"
        self.pushes += 1
        taken, given = self._any(chance), self._any(chance)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            git(given, "clone", "-q", url(taken), str(folder))
            job = folder / "jobs" / "pushed" / str(chance.randrange(5))
            job.parent.mkdir(parents=True, exist_ok=True)
            job.write_text(f"#!/bin/sh\necho {chance.random()}\n")
            git(given, "-C", str(folder), "add", "-A")
            git(given, "-C", str(folder), "commit", "-qm", f"push {self.pushes}")
            git(given, "-C", str(folder), "push", "-q", url(given), "HEAD:main")
        self._over.wait(chance.uniform(0, 4))

    def _cancel(self, chance: random.Random, name: str) -> None:
        self._over.wait(chance.uniform(1, 5))
        if self.acks:
            ack = chance.choice(self.acks[-5:])
            with contextlib.suppress(OSError, RefusedError), self._any(chance).rest(3.0) as rest:
                rest.call("POST", f"/v1/builds/{ack.build}/cancel", {})
                self.cancels += 1

    def evidence(self, hosts: Sequence[Host], patience_s: float = 90.0) -> Evidence:
        """Wait until the hosts are at rest, and return all there is to be judged."""
        kept = [self.journal[seq] for seq in sorted(self.journal)]
        return gather(
            hosts,
            acks=self.acks,
            marks=self.marks,
            logs=self.logs,
            followed=self.followed,
            kept=kept,
            patience_s=patience_s,
        )


def _knows(host: Host, jobs: set[str]) -> bool:
    with host.rest(ANSWER_S) as rest:
        return jobs <= {job["name"] for job in rest.call("GET", "/v1/jobs")}


def pieces(answer: Any) -> Iterator[bytes]:
    """Yield what comes, until the answer ends or breaks off."""
    while True:
        try:
            piece = answer.read1(1 << 16)
        except (OSError, ValueError, http.client.HTTPException):
            return
        if not piece:
            return
        yield piece


def url(host: Host) -> str:
    """Return where git finds a host's store, its token included."""
    return f"http://git:{host.token_text}@{host.address}:{host.port}/store.git"


def git(host: Host, *words: str) -> None:
    """Run git on a host.

    Raises:
        SubprocessError: it failed, or took too long.
    """
    identity = ("-c", "user.name=load", "-c", "user.email=load@lab", "-c", "http.lowSpeedTime=5")
    done = host.execute(["git", *identity, "-c", "http.lowSpeedLimit=1", *words], within_s=20.0)
    done.check_returncode()


# -- faults -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: ``number`` names a host, modulo how many there are."""

    kind: str
    number: int
    lasts_s: float
    then_s: float


#: What happens, and how often; those with a network of their own only where there is one.
KINDS = {
    "kill daemon": 6,
    "kill engine": 3,
    "kill both": 3,
    "kill host": 3,
    "freeze daemon": 2,
    "freeze engine": 2,
    "freeze both": 2,
    "freeze host": 1,
    "stop": 3,
    "upgrade": 4,
    "kill all": 0.5,
    "drain": 1,
    "skew": 1,
    "cut": 4,
    "mute": 1,
    "split": 2,
    "slow": 1,
    "lossy": 1,
}
NETWORK = {"cut", "mute", "split", "slow", "lossy"}


def faults(seed: int, *, network: bool, kinds: dict[str, float] = KINDS) -> Iterator[Fault]:
    """Yield faults for ever, the same for the same seed."""
    chance = random.Random(seed)
    names = [name for name in kinds if network or name not in NETWORK]
    while True:
        kind = chance.choices(names, weights=[kinds[name] for name in names])[0]
        number, lasts = chance.randrange(60), chance.choice([0.3, 1.5, 4.0, 11.0])
        yield Fault(kind, number, lasts, chance.choice([0.2, 1.0, 3.0]))


class Chaos:
    """Breaks hosts of a lab, one after the other, and mends them."""

    def __init__(self, lab: Lab, load: Load, say: Callable[[str], None] = print) -> None:
        self.lab, self.load, self.say = lab, load, say
        self.began = time.monotonic()
        self.counts: collections.Counter[str] = collections.Counter()
        #: The code of the version before, to go back to; once :attr:`is_raised` nobody does.
        self.former: Path | None = None
        self.is_raised = False
        self._starting: list[subprocess.Popen[bytes]] = []

    @property
    def hosts(self) -> list[Host]:
        """The members, which faults befall."""
        return self.load.hosts

    def note(self, text: str) -> None:
        """Say what happens, and when."""
        self.say(f"{time.monotonic() - self.began:7.1f} s  {text}")

    def strike(self, fault: Fault) -> None:
        """Let a fault happen, last and end; then wait as long as it says."""
        host = self.hosts[fault.number % len(self.hosts)]
        self.note(f"{fault.kind} on {host} for {fault.lasts_s} s")
        self.counts[fault.kind] += 1
        try:
            self._strike(fault, host)
        except NotHereError as error:
            self.note(f"not here: {error}")
        self.reap()
        time.sleep(fault.then_s)

    def _strike(self, fault: Fault, host: Host) -> None:
        what, _, who = fault.kind.partition(" ")
        match what:
            case "kill" if who == "all":
                for each in self.hosts:
                    each.slay("host")
                time.sleep(min(fault.lasts_s, 1.5))
                for each in self.hosts:
                    self.start(each)
            case "kill":
                host.slay(who)
                time.sleep(fault.lasts_s)
                self.start(host)
            case "freeze":
                host.freeze(who)
                time.sleep(fault.lasts_s)
                host.thaw()
            case "stop":
                host.run("stop")
                time.sleep(fault.lasts_s)
                self.start(host)
            case "upgrade":
                # By plan, or as if the machine had been switched off for it.
                host.slay("both") if fault.number % 3 == 0 else host.run("stop")
                self._change_version(host)
                time.sleep(min(fault.lasts_s, 4.0))
                self.start(host)
            case "drain":
                host.run("drain", host.name)
                time.sleep(fault.lasts_s)
                host.run("drain", "--off", host.name)
            case "skew":
                host.skew(300.0 if fault.number % 2 else -300.0)
                time.sleep(fault.lasts_s)
                host.skew(0.0)
            case _:
                self._disturb(fault, host)
                time.sleep(fault.lasts_s)
                self.lab.heal()

    def _change_version(self, host: Host) -> None:
        """Have the other version start there next; somebody stays at the former, so that all may go back."""
        if self.former is None or self.is_raised:
            return
        if host.source is not None:
            others = [other for other in self.hosts if other is not host]
            # One that was told to be the former is so for the others only once it is up.
            if any(other.source is not None and self._is_former(other) for other in others):
                host.source = None
        else:
            host.source = self.former
        self.note(f"{host} is of {'the version before' if host.source else 'this version'} now")

    def _is_former(self, host: Host) -> bool:
        """Whether a host answers as the version before, which knows nothing of levels."""
        with contextlib.suppress(OSError, RefusedError), host.rest(2.0) as rest:
            return "level" not in rest.call("GET", "/v1/status")
        return False

    def raise_all(self) -> None:
        """Upgrade whoever is of the version before: from then on nobody goes back."""
        self.is_raised = True
        for host in [host for host in self.hosts if host.source is not None]:
            host.run("stop")
            host.source = None
            self.note(f"{host} is of this version now")
            self.start(host)
            wait_until(f"{host} is up", functools.partial(self._is_back, host), 2 * START_S)
            self.reap()

    def level(self) -> int:
        """Return the cluster's level, as any member says it; 0 if none answers."""
        for host in self.hosts:
            with contextlib.suppress(OSError, RefusedError), host.rest(2.0) as rest:
                return int(rest.call("GET", "/v1/status").get("level", 1))
        return 0

    def _disturb(self, fault: Fault, host: Host) -> None:
        others = [other for other in self.hosts if other is not host]
        match fault.kind:
            case "cut":
                host.cut()
            case "mute" if others:
                host.mute(others[fault.number % len(others)])
            case "split" if others:
                half = len(self.hosts) // 2
                self.lab.split(self.hosts[:half], self.hosts[half:])
            case "slow":
                host.slow("1mbit")
            case "lossy":
                host.lossy(0.2)
            case _:
                pass

    def start(self, host: Host) -> None:
        """Start a host's daemon, if it does not run, without waiting for it."""
        if not host.is_up:
            self._starting.append(host.start_soon())

    def reap(self) -> None:
        """Forget the starts that are over."""
        self._starting = [process for process in self._starting if process.poll() is None]

    def grow(self) -> Host:
        """Let a new host join, by a token of any member."""
        host = self.lab.add()
        with contextlib.suppress(NotHereError):
            host.skewable()
        token = wait_until("a token is made", self._token, START_S)
        host.start(join=token, within_s=2 * START_S)
        self.hosts.append(host)
        self.note(f"{host} has joined: {len(self.hosts)} members")
        return host

    def _token(self) -> str | None:
        for host in self.hosts:
            done = host.run("token", "create", within_s=20.0)
            if done.returncode == 0:
                return str(done.stdout).split()[-1]
        return None

    def shrink(self, host: Host) -> None:
        """Let a member leave for good, as a person would ask for it."""
        self.hosts.remove(host)
        done = host.run("leave", within_s=4 * START_S)
        self.note(f"{host} has left: {done.stdout.strip()}{done.stderr.strip()}")
        if done.returncode:
            self.load.faults.append(f"{host} could not leave: {done.stderr}")

    def mend(self) -> None:
        """End all faults, and return when every member takes builds again."""
        if self.lab.net:
            self.lab.heal()
        for host in self.hosts:
            host.thaw()
        for host in self.hosts:
            wait_until(f"{host} is up", functools.partial(self._is_back, host), 2 * START_S)
        for process in self._starting:
            process.wait()

    def _is_back(self, host: Host) -> bool:
        self.reap()
        if not host.is_up and not self._starting:
            self.start(host)
        with contextlib.suppress(OSError, RefusedError), host.rest(2.0) as rest:
            return bool(rest.call("GET", "/v1/status")["agent"] == host.name)
        time.sleep(0.2)
        return False


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def summary(load: Load, chaos: Chaos, evidence: Evidence) -> list[str]:
    """Return what a run was like, in lines."""
    times = [when for when, _ in load.answers_s]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    took = [seconds for _, seconds in load.answers_s]
    return [
        f"faults: {', '.join(f'{n} {kind}' for kind, n in sorted(chaos.counts.items()))}",
        (
            f"triggers: {len(load.acks)} acknowledged, {load.given_up} given up after {GIVE_UP_S:.0f} s,"
            f" answered in p50 {quantile(took, 0.5):.3f} s, p99 {quantile(took, 0.99):.1f} s;"
            f" longest time without one {max(gaps, default=0.0):.1f} s;"
            f" tries refused or unanswered: {dict(load.refusals)}"
        ),
        (
            f"journal: {len(evidence.journal)} events; {len(evidence.marks)} marks of scripts;"
            f" {len(evidence.logs)} logs read; {load.pushes} pushes tried, {load.cancels} cancels"
        ),
    ]


def keep(folder: Path, evidence: Evidence) -> None:
    """Write what was read to files, for whoever looks into it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(event) for event in evidence.journal)
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    marks = (json.dumps(dataclasses.asdict(mark)) for mark in evidence.marks)
    (folder / "marks.jsonl").write_text("\n".join(marks) + "\n")
    print(f"what was read is in {folder}", file=sys.stderr)
