"""An agent in a container: where its folders are for the engine."""

from pathlib import Path
from typing import Any

import pytest

from rota.adapters.docker.outside import Outside, own_container
from rota.errors import ExecutionError, NotFoundError

ID = "0123456789abcdef" * 4
DOCKER = f"""\
634 622 0:55 / / rw,relatime - overlay overlay rw
641 634 254:1 /var/lib/docker/volumes/a/_data /var/lib/rota rw - ext4 /dev/vda rw
642 634 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw
643 634 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw
"""
PODMAN = (
    f"900 8 0:29 /containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname rw"
    " - tmpfs tmpfs rw\n"
)
#: A machine on which containers run has such paths mounted as well, and not as its own name.
HOST = f"12 1 0:5 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n"


class Engine:
    def __init__(self, mounts: list[dict[str, str]] | None) -> None:
        self.mounts, self.asked = mounts, 0

    async def ask(self, method: str, path: str) -> Any:
        assert (method, path) == ("GET", f"containers/{ID}/json")
        self.asked += 1
        if self.mounts is None:
            raise NotFoundError("no such container")
        return {"Mounts": self.mounts}


def body(*sources: str) -> dict[str, Any]:
    mounts = [{"Type": "bind", "Source": source, "Target": source} for source in sources]
    return {"Image": "x", "HostConfig": {"Memory": 1, "Mounts": [*mounts, {"Type": "tmpfs"}]}}


def told(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "own"), [(DOCKER, ID), (PODMAN, ID), (HOST, None), ("", None), ("x y\n", None)]
)
def test_a_process_finds_the_container_that_it_is_in(
    tmp_path: Path, text: str, own: str | None
) -> None:
    assert own_container(told(tmp_path, text)) == own
    assert own_container(tmp_path / "nothing") is None


async def test_sources_are_told_as_the_engine_sees_them(tmp_path: Path) -> None:
    engine = Engine(
        [
            {"Destination": "/var/lib/rota", "Source": "/var/lib/docker/volumes/a/_data"},
            {"Destination": "/run/docker.sock", "Source": "/run/user/1/docker.sock"},
        ]
    )
    outside = Outside(engine.ask, told(tmp_path, DOCKER))
    asked = body("/var/lib/rota/builds/b/1", "/run/docker.sock", "/var/lib/rota")
    found = await outside.body(asked)
    assert [mount.get("Source") for mount in found["HostConfig"]["Mounts"]] == [
        "/var/lib/docker/volumes/a/_data/builds/b/1",
        "/run/user/1/docker.sock",
        "/var/lib/docker/volumes/a/_data",
        None,
    ]
    assert found["HostConfig"]["Mounts"][0]["Target"] == "/var/lib/rota/builds/b/1"
    assert found["HostConfig"]["Memory"] == 1
    await outside.body(asked)
    assert engine.asked == 1


async def test_what_the_engine_cannot_see_is_refused_in_words(tmp_path: Path) -> None:
    outside = Outside(Engine([]).ask, told(tmp_path, DOCKER))
    with pytest.raises(ExecutionError) as caught:
        await outside.body(body("/var/lib/rota/builds/b/1"))
    assert caught.value.message == (
        "this agent runs in a container, and the container engine does not see its"
        " /var/lib/rota/builds/b/1"
    )
    assert caught.value.hint == (
        "mount the agent's data folder from outside, such as -v rota:/var/lib/rota"
    )


async def test_on_a_machine_of_its_own_nothing_is_changed_and_nobody_asked(tmp_path: Path) -> None:
    engine = Engine(None)
    asked = body("/srv/x")
    assert await Outside(engine.ask, told(tmp_path, HOST)).body(asked) == asked
    assert engine.asked == 0


async def test_an_engine_within_the_same_container_sees_what_the_agent_sees(tmp_path: Path) -> None:
    engine = Engine(None)
    outside, asked = Outside(engine.ask, told(tmp_path, DOCKER)), body("/srv/x")
    assert await outside.body(asked) == asked
    assert await outside.body(asked) == asked
    assert engine.asked == 1
