"""The page on the client library is run, top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.daemon import daemon

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JOB = """\
# /// script
# [tool.rota.params]
# suite = { default = "fast" }
# ///
echo tested $suite
"""

pytestmark = [pytest.mark.nats, pytest.mark.slow]


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    code = "\n".join(BLOCK.findall(PAGE.read_text()))
    assert code.count("Client.find(") == 2
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}
    with daemon(tmp_path / "data") as agent:
        agent.add("web/test", JOB)
        done = subprocess.run(
            [sys.executable, "-c", code + "\nprint(names)"],
            env={**clean, "ROTA_DATA": str(agent.data), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["tested full", "web/test#1 passed 0"]
    assert lines[2].endswith(" build.requested")
    assert lines[-2:] == ["no job 'wbe/test' - did you mean 'web/test'?", "['web/test']"]
