"""Some seeds of the simulated cluster; `python -m tests.property.simulate` runs thousands."""

import pytest
from tests.property.simulate import World, simulate


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_a_simulated_cluster_keeps_its_promises_and_comes_right(first: int) -> None:
    for seed in range(first, first + 10):
        try:
            simulate(seed)
        except AssertionError as error:
            error.add_note(f"python -m tests.property.simulate --seed {seed} --trace")
            raise


def test_a_seed_tells_the_same_story_each_time() -> None:
    for seed in (3, 17, 42):
        one, other = World(seed), World(seed)
        assert one.run() == other.run()
        assert one.journal.events == other.journal.events
        assert list(one.notes) == list(other.notes)


def test_the_storms_are_storms() -> None:
    stories = [simulate(seed) for seed in range(100, 120)]
    assert sum(story.elections for story in stories) > 40
    assert sum(story.lost for story in stories) > 12
    assert sum(story.appointed for story in stories) > 20
    assert sum(story.builds for story in stories) > 300
