"""Breaks a real cluster under load, and judges what is left of its promises.

`python -m tests.torture --seed S --minutes M --agents N`: faults by chance for so long, growth to
five in the middle and back, then an outside reading of journal, stores, logs and marks.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.harness.chaos import Chaos, Load, faults, keep, summary
from tests.harness.checker import check
from tests.harness.former import former
from tests.harness.lab import Lab, NotHereError, no_spaces

#: The share of the time after which it grows, after which it shrinks again, and after which all
#: agents are of this version: up to then they change between it and the one before.
GROWS, SHRINKS, RAISES = 0.3, 0.6, 0.75
MOST = 5


def main() -> int:
    """Run one torture; return 0 if every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=None, help="what happens; by chance if not given"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults happen")
    parser.add_argument("--agents", type=int, default=3, help="how many agents it begins with")
    parser.add_argument("--most", type=int, default=MOST, help="how many it grows to")
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between triggers")
    parser.add_argument("--only", action="append", help="only this kind of fault; may be repeated")
    parser.add_argument("--no-upgrades", action="store_true", help="only agents of this version")
    parser.add_argument("--keep", action="store_true", help="leave the folder if a promise broke")
    parser.add_argument("--no-spaces", action="store_true", help="folders instead of namespaces")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)  # so that the lab is taken away
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="rota-torture-"))
    print(
        f"seed {seed}, {options.minutes} minutes, {options.agents} agents, in {folder}", flush=True
    )
    if no_spaces():
        print(f"note: {no_spaces()}: nothing is cut off in this run")
    is_good = False
    try:
        with Lab(folder, spaces=False if options.no_spaces else None) as lab:
            is_good = _torture(lab, seed, options)
    finally:
        if is_good or not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


def _torture(lab: Lab, seed: int, options: argparse.Namespace) -> bool:
    before = _former(options)
    for _ in range(options.agents):
        host = lab.add()
        host.source = before
        host.slots = 2
        with contextlib.suppress(NotHereError):
            host.skewable()
        lab.join(host)
    load = Load(lab, seed, pause_s=options.pause)
    chaos = Chaos(lab, load, say=lambda text: print(text, flush=True))
    chaos.former = before
    load.begin()
    try:
        _storm(chaos, seed, options)
        chaos.mend()
        chaos.note("all is mended")
    finally:
        load.end()
    chaos.note("nothing is asked for any more")
    evidence = load.evidence(load.hosts)
    chaos.note("all is read")
    violations = [*map(str, check(evidence)), *load.faults]
    if not evidence.settled:
        violations.append("P1: the cluster did not come to rest")
    for line in summary(load, chaos, evidence):
        print(line)
    if before is not None and chaos.level() < 2:
        violations.append(f"all agents are of this version, and the level is {chaos.level()}")
    for violation in violations:
        print(violation)
    print(f"{len(violations)} violations; seed {seed}")
    if violations and options.keep:
        keep(lab.folder / "evidence", evidence)
    return not violations


def _storm(chaos: Chaos, seed: int, options: argparse.Namespace) -> None:
    began, whole_s = time.monotonic(), options.minutes * 60
    grown = options.agents
    for fault in faults(seed, network=bool(chaos.lab.net)):
        share = (time.monotonic() - began) / whole_s
        if share >= 1:
            return
        if options.only and fault.kind not in options.only:
            continue
        if GROWS <= share < SHRINKS and grown < options.most:
            chaos.mend()
            chaos.grow()
            grown += 1
        elif share >= SHRINKS and len(chaos.hosts) > options.agents:
            chaos.mend()
            chaos.shrink(chaos.hosts[fault.number % len(chaos.hosts)])
        if share >= RAISES and chaos.former is not None and not chaos.is_raised:
            chaos.mend()
            chaos.raise_all()
        chaos.strike(fault)


def _former(options: argparse.Namespace) -> Path | None:
    if options.no_upgrades:
        return None
    try:
        return former()
    except NotHereError as error:
        print(f"note: {error}: no upgrades in this run")
        return None


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
