"""A webhook's word on where its forge is: any text at all, and no token goes anywhere else by it."""

import pytest
from msgspec.structs import replace

from rota.core.build import Build, Trigger
from rota.core.events import EPOCH
from rota.core.job import Spec
from rota.core.settings import Forge
from rota.core.states import State
from rota.core.statuses import target_of

BUILD = Build(
    id="b", job="web", number=1, requested_seq=1, requested_at=EPOCH, seq=1, state=State.QUEUED,
    spec=Spec(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("repo", "api"),
    [
        ("git.example/web", "https://[git.example/api"),
        ("[git/web", "https://[git/api"),
        ("[git/web", ""),
        ("git.example/web", "https://git.example.evil/api"),
        ("git.example/web", "https://git.example@evil/api"),
        ("git.example/web", "//"),
    ],
)
def test_an_odd_api_is_no_target(repo: str, api: str) -> None:
    data = {"repo": repo, "api": api, "project": "a/web", "commit": "1" * 40, "forge": "gitea"}
    trigger = Trigger(kind="push", by="gitea", data=data)
    found = target_of(replace(BUILD, trigger=trigger), {"git.example": Forge(kind="gitea")})
    assert isinstance(found, str), found
