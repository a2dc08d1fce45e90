"""Stages: what surrounds a script begins in order, ends in reverse, and none spoils another."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.agent.stages import NOTHING, Ending, Left, Stages, Underway
from rota.core.build import Annotation, Build
from rota.core.job import Reason
from rota.core.masks import Masks
from rota.core.states import State
from rota.errors import ExecutionError, UnavailableError
from rota.ports.executor import Task

BUILD = Build(id="b1", job="web", number=1, state=State.RUNNING, requested_at=moment())
OVER = Ending(exit=None, reason=Reason.SCRIPT, passed=True)


class Noted:
    """A stage that writes down what happens to it."""

    def __init__(self, name: str, notes: list[str], *, fails: str = "", concerns: bool = True):
        self.name, self.notes, self.fails, self.is_concerned = name, notes, fails, concerns

    def concerns(self, build: Build) -> bool:
        return self.is_concerned

    async def before(self, under: Underway, task: Task) -> Task:
        self.notes.append(f"before {self.name}")
        if self.fails == "before":
            raise ExecutionError(f"{self.name} cannot")
        return replace(task, env={**task.env, self.name: "yes"})

    async def resume(self, under: Underway, task: Task) -> Task:
        self.notes.append(f"resume {self.name}")
        return task

    async def after(self, under: Underway, ending: Ending) -> Left:
        self.notes.append(f"after {self.name}")
        if self.fails == "after":
            raise UnavailableError(f"{self.name} is away")
        remark = Annotation(level="warning", message=self.name)
        return Left(faults=(f"{self.name} was late",), remarks=(remark,))


@pytest.fixture
def under(tmp_path: Path) -> Underway:
    return Underway(build=BUILD, home=tmp_path, masks=Masks())


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(home=tmp_path, argv=("x",), cwd=tmp_path, env={"A": "1"})


async def test_they_begin_in_order_and_end_in_reverse(under: Underway, task: Task) -> None:
    notes: list[str] = []
    stages = Stages([Noted("one", notes), Noted("two", notes)], under)
    task = await stages.before(task)
    left = await stages.after(OVER)
    assert notes == ["before one", "before two", "after two", "after one"]
    assert task.env == {"A": "1", "one": "yes", "two": "yes"}
    assert left.faults == ("two was late", "one was late")
    assert [remark.message for remark in left.remarks] == ["two", "one"]


async def test_who_does_not_concern_a_build_is_not_asked(under: Underway, task: Task) -> None:
    notes: list[str] = []
    stages = Stages([Noted("one", notes, concerns=False)], under)
    assert not stages
    assert await stages.before(task) is task
    assert await stages.after(OVER) == NOTHING
    assert notes == []


async def test_one_that_cannot_begin_is_ended_with_those_before_it(
    under: Underway, task: Task
) -> None:
    notes: list[str] = []
    makers = [Noted("one", notes), Noted("two", notes, fails="before"), Noted("three", notes)]
    stages = Stages(makers, under)
    with pytest.raises(ExecutionError, match="two cannot"):
        await stages.before(task)
    await stages.after(OVER)
    assert notes == ["before one", "before two", "after two", "after one"]


async def test_one_that_cannot_end_spoils_no_other(under: Underway, task: Task) -> None:
    notes: list[str] = []
    stages = Stages([Noted("one", notes), Noted("two", notes, fails="after")], under)
    await stages.before(task)
    assert (await stages.after(OVER)).faults == ("two is away", "one was late")
    assert await stages.after(OVER) == NOTHING, "each ends once"


async def test_all_end_that_a_former_daemon_began(under: Underway, task: Task) -> None:
    notes: list[str] = []
    stages = Stages([Noted("one", notes), Noted("two", notes)], under)
    await stages.resume(task)
    await stages.after(OVER)
    assert notes == ["resume one", "resume two", "after two", "after one"]


def test_what_is_said_stands_in_the_log(under: Underway) -> None:
    under.say("pulling debian:12")
    under.say("\udcff is no letter")
    assert (under.home / "log").read_bytes() == b"pulling debian:12\n? is no letter\n"


def test_what_the_disk_does_not_take_is_not_said(under: Underway) -> None:
    (under.home / "log").mkdir()
    under.say("nobody hears this")
