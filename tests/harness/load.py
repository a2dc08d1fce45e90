"""Jobs whose scripts say what they did, outside the agents and beyond their reach.

A script holds a lock of the kernel's on its attempt (or, if the job is exclusive, on its build) as
long as it lives: who cannot get it has caught two at once, whatever any clock says. It appends to
the attempt's file of marks, and prints lines that anybody can compute again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

SCRIPT = r"""#!/bin/bash
# /// script
# [tool.rota]
# {settings}
# retry = {{ times = 20, on = ["lost", "agent-error"] }}
# env = {{ MARKS = "{marks}" }}
#
# [tool.rota.params]
# lines = {{ type = "int", default = 10 }}
# pause = {{ default = "0" }}
# status = {{ type = "int", default = 0 }}
# ///
trial="$ROTA_BUILD.$ROTA_ATTEMPT"
mark() {{
    read -r up _ < /proc/uptime
    printf '%s %s %s %s %s\n' "$1" "$nonce" "$$" "$ROTA_AGENT" "$up" >> "$MARKS/$trial.marks"
}}
nonce="$RANDOM$RANDOM$RANDOM"
exec 9>> "$MARKS/{lock}.lock"
mark begin
flock -n 9 || mark overlap
for ((i = 1; i <= lines; i++)); do
    printf '%s line %d of %d\n' "$trial" "$i" "$lines"
    [ "$pause" = 0 ] || sleep "$pause" 9>&-
done
mark end
exit "$status"
"""


@dataclasses.dataclass(frozen=True)
class Mark:
    """What one script wrote: ``what`` is begin, end or overlap; ``up_s`` seconds since boot."""

    build: str
    attempt: int
    what: str
    nonce: str
    pid: int
    agent: str
    up_s: float


def script(marks: Path, *, exclusive: bool = False, labels: str = "") -> str:
    """Return a job that leaves marks in a folder."""
    settings = [f'labels = "{labels}"'] if labels else []
    settings += ["exclusive = true"] if exclusive else []
    lock = "$ROTA_BUILD" if exclusive else "$trial"
    return SCRIPT.format(
        settings="\n# ".join(settings) or "# no more settings", marks=marks, lock=lock
    )


def log_of(build: str, attempt: int, lines: int) -> bytes:
    """Return what the script prints if nobody ends it."""
    trial = f"{build}.{attempt}"
    return "".join(f"{trial} line {i} of {lines}\n" for i in range(1, lines + 1)).encode()


def read_marks(folder: Path) -> list[Mark]:
    """Return all marks, those of an attempt in the order they were written."""
    marks = []
    for path in sorted(folder.glob("*.marks")):
        build, _, attempt = path.stem.rpartition(".")
        for line in path.read_text().splitlines():
            what, nonce, pid, agent, up = line.split(" ")
            marks.append(Mark(build, int(attempt), what, nonce, int(pid), agent, float(up)))
    return marks
