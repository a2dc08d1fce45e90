"""``python -m tests.fuzz [TARGET…] [--minutes 5]``: each target led by the code that it reaches (atheris).

A corpus grows in a folder of its own, by default under the system's temporary folder; what makes a target
fail is left there as ``crash-…`` and its name printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: One input may take so long, and all of a target so much memory: more is a fault.
ONE_S, MEMORY_MB, LONGEST = 60, 1500, 16_384


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir(), "rota-fuzz"))
    given = parser.parse_args()
    if given.targets[:1] == ["--"]:
        given.targets = given.targets[1:]
    names = given.targets or subprocess.run(
        [sys.executable, "-c", "from tests.fuzz.targets import TARGETS; print(*TARGETS)"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    failed = [name for name in names if _fuzz(name, given.minutes, given.corpus)]
    print("failed:" if failed else "nothing failed", *failed)
    return bool(failed)


def _fuzz(name: str, minutes: float, corpus: Path) -> int:
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={round(minutes * 60)}", f"-timeout={ONE_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={LONGEST}", f"-artifact_prefix={folder}-", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    print(f"== {name}: {minutes:g} minutes, corpus in {folder}", flush=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", name, str(folder), *options], env=env, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
