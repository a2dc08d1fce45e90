"""Reports by a real agent: a build that outlives its daemon, what is read of it, and what is printed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SCRIPT = """#!/bin/sh
# /// script
# [tool.rota]
# tests = ["r/*.xml", "*.tap"]
# coverage = "lcov.info"
# ///
set -e
echo begun
while [ ! -e {gate} ]; do sleep 0.02; done
mkdir r
cat > r/a.xml <<'X'
<testsuite name="s"><testcase classname="C" name="adds" time="0.5"/>
<testcase classname="C" name="removes"><failure message="expected 1">at C.removes(C.java:7)</failure></testcase>
</testsuite>
X
printf '1..1\\nok 1 - tapped\\n' > x.tap
printf 'SF:a\\nLF:8\\nLH:6\\nend_of_record\\n' > lcov.info
rota metric size.wheel 2048 --unit B
echo FAILED C.removes
"""


@pytest.fixture
def here() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="rota-reports-"))
    try:
        with daemon(folder / "data") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def test_reports_of_a_build_whose_daemon_was_killed(here: Daemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    here.add("t", SCRIPT.format(gate=gate))
    here.ok("run", "t")
    wait_until("the script begins", lambda: "begun" in here.run("log", "t#1").stdout)
    here.kill()
    gate.touch()
    here.start()
    done = here.run("run", "t", "--wait")
    assert done.returncode == 1
    assert "(reports): 1 of 3 tests failed" in done.stdout + done.stderr
    build = here.until("t#1", "finished")
    assert (build["result"], build["reason"], build["attempt"]) == ("failed", "reports", 1)
    offset = here.ok("log", "t#1").index("FAILED")
    assert build["tests"]["failures"] == [
        {
            "test": "C.removes",
            "message": "expected 1",
            "file": "C.java",
            "line": 7,
            "offset": offset,
        }
    ]
    assert here.ok("tests", "t#1") == "failed  0  C.removes  C.java:7  expected 1\n"
    assert here.ok("tests", "t#1", "--all", "--match", "tapped").startswith(
        "passed  0  x.tap.tapped"
    )
    assert here.ok("tests", "t").splitlines()[0] == "failing  2 of 2  #1  C.removes"
    assert (
        here.ok("tests", "t", "--case", "adds").splitlines()[1].startswith("t#1  1  passed  0.5s")
    )
    listed = here.ok("metrics", "t")
    assert "coverage  75%  =  -\n" in listed
    assert "size.wheel  2048B  =  -\n" in listed
    shown = here.ok("show", "t#1")
    assert "3 tests, 1 failed" in shown
    assert "C.removes: expected 1: C.java:7" in shown
    assert "what its reports say did not" in here.ok("why", "t#1")
    for wrong, said in (
        (("tests", "nosuch"), "no job 'nosuch'"),
        (("tests", "t", "--case", "nosuch"), "no build of t had a test 'nosuch'"),
        (("tests", "t", "--attempt", "1"), "--attempt is for the tests of one build"),
        (("tests", "t#1", "--case", "x"), "--case is for the tests of a job over its builds"),
        (("metrics", "t", "nosuch"), "no build of t told a metric 'nosuch'"),
    ):
        assert said in here.run(*wrong).stderr
