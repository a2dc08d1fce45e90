"""What was freed is given back: measured by the kernel, of this very process or a child."""

import asyncio
import subprocess
import sys

import pytest

from rota.daemon import heap

#: Holes between what lives, which the C library keeps; how much is resident before and after.
PROGRAM = """
from pathlib import Path

from rota.daemon.heap import give_back, share_one_arena

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

print(share_one_arena())
kept = [bytes(2000 + n % 1000) for n in range(20_000)]
del kept[: len(kept) - 1]
before = resident()
print(give_back(), before - resident() > 30)
"""


def test_holes_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    if done.stdout.startswith("False"):
        pytest.skip("this C library keeps nothing that it could give back")
    assert done.stdout.split() == ["True", "True", "True"]


def test_a_daemon_that_needs_them_not_loads_no_tar_no_statistics_and_no_diff() -> None:
    code = (
        "import sys, rota.bootstrap.daemon; "
        "print({'tarfile', 'statistics', 'fractions', 'difflib', 'aiodocker', 'yaml'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_it_is_done_once_there_was_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [0, heap.WORTH - 1, heap.WORTH, heap.WORTH + 1, 2 * heap.WORTH]
    given: list[int] = []

    async def slept(_: float) -> None:
        if not left:
            raise TimeoutError

    monkeypatch.setattr(heap, "give_back", lambda: given.append(len(left)))
    monkeypatch.setattr(asyncio, "sleep", slept)
    with pytest.raises(TimeoutError):
        asyncio.run(heap.keep_small(lambda: left.pop(0)))
    # After the first look, at the start; after the third; after the last.
    assert given == [4, 2, 0]
