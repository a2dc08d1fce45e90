"""Pipelines on a real agent: a diamond, a matrix, 200 children, a tree cancelled in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.joined import script

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
        yield running


def add(agent: Daemon, name: str, header: str, body: str) -> None:
    agent.add(name, script(header) + body + "\n")


def tree(agent: Daemon, ref: str) -> list[dict[str, Any]]:
    return list(agent.json("show", ref, "--tree")["builds"])


def results(agent: Daemon, ref: str) -> dict[str, str]:
    return {f"{it['job']}#{it['number']}": it["result"] or it["state"] for it in tree(agent, ref)}


def test_a_diamond_is_built_in_order_and_what_it_made_is_handed_on(
    agent: Daemon, tmp_path: Path
) -> None:
    add(agent, "d/base", 'artifacts = ["out/*"]', "mkdir out; echo made >out/file")
    for side in ("left", "right"):
        need = '{ job = "d/base", artifacts = ["out/*"] }'
        body = f"cat out/file; echo {side} >{side}; rota artifacts put {side}"
        add(agent, f"d/{side}", f"needs = [{need}]", body)
    needs = '{ job = "d/left", artifacts = ["*"] }, { job = "d/right", artifacts = ["*"] }'
    add(agent, "d/top", f"needs = [{needs}]", "cat left right; echo $ROTA_NEEDS")
    done = agent.run("run", "d/top", "-f")
    assert done.stdout == "left\nright\nd/left#1 d/right#1\n", done.stderr
    agent.ok("artifacts", "get", "d/base#1", "out/*", "-o", str(tmp_path))
    assert (tmp_path / "out" / "file").read_text() == "made\n"
    none = agent.run("artifacts", "get", "d/base#1", "*.zip")
    assert "d/base#1 left nothing that matches '*.zip'" in none.stderr
    builds = {it["job"]: it for it in tree(agent, "d/top")}
    assert len(builds) == 4
    assert builds["d/base"]["finished_at"] <= builds["d/left"]["started_at"]
    assert (
        max(builds[f"d/{it}"]["finished_at"] for it in ("left", "right"))
        <= (builds["d/top"]["started_at"])
    )


def test_a_failed_need_is_tried_again_from_either_end(agent: Daemon, tmp_path: Path) -> None:
    add(agent, "r/flaky", "", f"test -e {tmp_path}/mended")
    add(agent, "r/down", 'needs = ["r/flaky"]', "echo went on")
    done = agent.run("run", "r/down", "--wait")
    assert done.returncode == 1
    assert "r/down#1 cancelled (unmet): it needs r/flaky#1, failed" in done.stderr
    (tmp_path / "mended").touch()
    agent.ok("retry", "r/flaky")
    assert agent.until("r/down#1", "finished")["result"] == "passed"
    assert agent.build("r/flaky#1")["attempt"] == 2


def test_a_matrix_fails_fast(agent: Daemon) -> None:
    header = "matrix = { n = [1, 2, 3, 4, 5], fail_fast = true, max_parallel = 2 }"
    add(agent, "m", header, "test $n != 1 || exit 1; sleep 30")
    done = agent.run("run", "m", "--wait")
    assert done.returncode == 1
    assert "m#6 failed (group): 1 failed, 4 cancelled" in done.stderr
    assert "m#1 failed" in done.stderr
    assert agent.build("m#3")["message"] == "fail_fast: m#1 failed"


def test_a_script_fans_out_200_ways_on_four_slots(agent: Daemon) -> None:
    add(agent, "part", "params = { n = 0 }", "exit $((n == 77))")
    body = "for n in $(seq 200); do rota run part n=$n --wait 2>/dev/null || echo $n & done; wait"
    add(agent, "fan", "", body)
    agent.ok("run", "fan")
    wait_until("all ended", lambda: agent.build("fan#1")["state"] == "finished" or None, 110.0)
    assert agent.ok("log", "fan#1") == "77\n"
    found = results(agent, "fan#1")
    assert len(found) == 201
    assert sorted(set(found.values())) == ["failed", "passed"]
    assert list(found.values()).count("failed") == 1


def test_scripts_that_wait_for_scripts_that_wait_need_no_more_slots(agent: Daemon) -> None:
    add(agent, "leaf", "", "true")
    add(agent, "twig", "", "rota run leaf --wait; rota run leaf -f")
    add(agent, "trunk", "", "for n in 1 2 3 4 5 6; do rota run twig --wait & done; wait")
    assert agent.json("run", "trunk", "--wait")["result"] == "passed"
    assert set(results(agent, "trunk#1").values()) == {"passed"}
    status = agent.json("status")
    assert (status["running"], status["held"]) == (0, 0)


def test_a_tree_is_cancelled_in_the_middle_also_by_a_daemon_that_was_killed(agent: Daemon) -> None:
    add(agent, "slow", "", "sleep 60")
    add(agent, "late", 'needs = ["slow"]', "true")
    body = "for n in 1 2 3 4 5; do rota run slow --wait & done; rota run late --wait & wait"
    add(agent, "root", "", body)
    agent.ok("run", "root")
    wait_until("seven are there", lambda: len(tree(agent, "root#1")) == 8 or None)
    why = agent.ok("why", "late#1")
    assert "late#1: waits for slow#" in why
    agent.kill()
    agent.start()
    agent.ok("cancel", "root#1", "enough")
    agent.until("root#1", "finished")
    wait_until(
        "all have ended", lambda: set(results(agent, "root#1").values()) == {"cancelled"} or None
    )
    refused = agent.run("cancel", "root#1")
    assert "root#1 is over: cancelled" in refused.stderr


def test_a_circle_is_refused_by_add_and_by_push(agent: Daemon, tmp_path: Path) -> None:
    add(agent, "c/one", "", "true")
    add(agent, "c/two", 'needs = ["c/one"]', "true")
    refused = agent.run("edit", "c/one", "-", stdin=script('needs = ["c/two"]'))
    assert refused.returncode == 2
    assert "jobs/c/one:4:12: c/one would wait for itself: c/one → c/two → c/one" in refused.stderr


def test_exec_runs_a_job_alone_whatever_it_needs_elsewhere(agent: Daemon, tmp_path: Path) -> None:
    header = 'needs = ["gone"]\nlimits = ["none"]\napprove = {}\nmatrix = { n = [1, 2] }'
    (tmp_path / "job").write_text(script(header) + "echo $n\n")
    assert sorted(agent.ok("exec", str(tmp_path / "job")).split()) == ["1", "2"]
    assert agent.ok("exec", str(tmp_path / "job"), "n=2") == "2\n"
    refused = agent.run("exec", str(tmp_path / "job"), "n=3")
    assert refused.returncode == 2
    assert "error: no cell of job's matrix has n=3\n\nhint: there is n=1 or n=2" in refused.stderr
