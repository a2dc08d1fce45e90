"""What is tried again, and for how long."""

import pytest

from rota.agent import patience
from rota.agent.patience import persist_leading
from rota.errors import StaleError, UnavailableError


async def test_what_a_fence_refused_in_the_moment_of_a_trim_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "STALE_S", 0.0)
    monkeypatch.setattr(patience, "DELAYS_S", (0.0,))
    answers: list[Exception | int] = [
        StaleError("another"),
        UnavailableError("no quorum"),
        StaleError("another"),
        7,
    ]

    async def write() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await persist_leading("chat", write) == 7
    assert not answers
