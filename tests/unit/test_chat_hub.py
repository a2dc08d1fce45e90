import pytest

from rota.adapters.memory_network import MemoryNetwork, MemoryServer
from rota.chat.hub import Hub
from rota.errors import InputError
from rota.ports.chat_wire import Report
from rota.ports.networks import LaterError, Saying


class _OneRoomIsGone(MemoryNetwork):
    """Connected; one of its rooms does not let it in."""

    @property
    def trouble(self) -> str:
        return "there is no room #gone"

    def _refuse(self) -> None:
        return


async def _untold(_: Report) -> None:
    return


async def test_a_room_that_does_not_let_us_in_keeps_nobody_from_the_others() -> None:
    server = MemoryServer()
    server.refused["#gone"] = "no such room"
    hub = Hub([_OneRoomIsGone("net", server=server)], {}, _untold)
    await hub.say("net", Saying(id="a", room="#web", text="hello"))
    assert server.texts() == ["hello"]
    assert await hub.was_said("net", Saying(id="a", room="#web", text="hello")) is True
    with pytest.raises(InputError, match="no such room"):
        await hub.say("net", Saying(id="b", room="#gone", text="hello"))


async def test_who_is_not_connected_says_nothing() -> None:
    hub = Hub([MemoryNetwork("net")], {}, _untold)
    with pytest.raises(LaterError, match="net: not connected yet"):
        await hub.say("net", Saying(id="a", room="#web", text="hello"))
