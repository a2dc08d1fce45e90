"""Problems: printed as compilers do, in order, with a hint where there is one."""

from __future__ import annotations

from rota.core.problem import Problem, nearest


def test_a_problem_names_its_place_as_far_as_it_has_one() -> None:
    assert str(Problem("job.sh", 3, 7, "no such key")) == "job.sh:3:7: no such key"
    assert str(Problem("job.sh", 3, 0, "no such key")) == "job.sh:3: no such key"
    assert str(Problem("job.sh", 0, 7, "no such key")) == "job.sh: no such key"
    assert str(Problem("j", 1, 1, "bad", "try this")) == "j:1:1: bad (try this)"


def test_problems_sort_by_place() -> None:
    late, early = Problem("a", 10, 1, "x"), Problem("a", 9, 80, "y")
    assert sorted([Problem("b", 1, 1, "z"), late, early]) == [early, late, Problem("b", 1, 1, "z")]


def test_the_nearest_word_is_offered_only_if_it_is_near() -> None:
    assert nearest("timeuot", ["retry", "timeout"]) == "did you mean 'timeout'?"
    assert nearest("xyz", iter(["retry", "timeout"])) is None
    assert nearest("xyz", []) is None


def test_problems_are_sorted_by_place_with_and_without_a_hint() -> None:
    bare, hinted = Problem("a", 1, 2, "bad"), Problem("a", 1, 2, "bad", "good?")
    first = Problem("a", 1, 1, "worse")
    assert sorted([hinted, bare, bare, first]) == [first, bare, bare, hinted]
