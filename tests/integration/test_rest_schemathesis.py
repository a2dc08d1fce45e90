"""The OpenAPI document is what the agent does, and no request that can be made of it is a 5xx."""

import pytest
from tests.fuzz.rest import attack


@pytest.mark.slow
@pytest.mark.timeout(600)  # 15 s; on a machine with ten times as much to do, ten times that
async def test_the_agent_does_what_its_document_says_whatever_is_sent() -> None:
    code, said = await attack("--phases", "coverage", "--seed", "1")
    assert "selected" in said, said
    assert code == 0, said[:20_000]
