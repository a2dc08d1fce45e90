"""Certificates of a running agent: renewed in time, by itself or by another, and said if not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.test_pki import At

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.adapters.pki import LIFE, TlsKeyring
from rota.agent.certificates import TROUBLE, Ask, Certificates
from rota.core.certificate import Certificate
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions
from rota.core.settings import Settings, parse_settings
from rota.errors import UnavailableError
from rota.service.world import World

DAY = timedelta(days=1)


async def nobody(request: bytes) -> bytes:
    raise UnavailableError("no other agent is known that could sign a certificate")


class Kept:
    """A keyring, what keeps it, and how often somebody was told of a new certificate."""

    def __init__(self, folder: Path, ask: Ask = nobody) -> None:
        self.clock = At()
        self.ring = TlsKeyring(folder / "tls", self.clock)
        self.ring.found("a", ["10.0.0.7"])
        self.world, self.told = World(MemoryJournal(), MemoryIndex(), Cluster()), 0
        self.certificates = Certificates(
            name="a",
            hosts=lambda: ["10.0.0.7"],
            world=self.world,
            keyring=self.ring,
            clock=self.clock,
            ask=ask,
            renewed=self._renewed,
        )

    def _renewed(self) -> None:
        self.told += 1

    def says(self, settings: str) -> None:
        read, problems = parse_settings(settings)
        assert not problems
        self.world.definitions = Definitions(settings=read)

    async def at(self, left: timedelta) -> Certificate:
        """Look with so much of the present life left; return what there is then."""
        self.clock.time = self.ring.present().until - left
        await self.certificates.look()
        return self.ring.present()


async def test_it_is_renewed_while_the_agent_runs_when_a_third_is_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    first = kept.ring.present()
    assert await kept.at(LIFE / 3 + DAY) == first
    assert kept.told == 0
    later = await kept.at(LIFE / 3 - DAY)
    assert (later.pin, later.hosts) == (first.pin, first.hosts)
    assert later.until - first.until == LIFE * 2 / 3 + DAY
    assert kept.told == 1
    await kept.certificates.look()
    assert kept.told == 1


async def test_a_setting_says_how_long_they_live(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.says('[certificates]\nlife = "30d"')
    shorter = await kept.at(LIFE)
    assert shorter.left(kept.clock.time) == 30 * DAY
    await kept.certificates.look()
    assert kept.ring.present() == shorter
    # What is too long is as wrong as what is too short: ten years, from a former version.
    kept.says('[certificates]\nlife = "1h"')
    assert (await kept.at(30 * DAY)).left(kept.clock.time) == timedelta(hours=1)
    assert not kept.ring.renew("a", ["10.0.0.7"])  # at a start it goes by its own


async def test_who_has_not_the_authority_has_it_signed_by_another(tmp_path: Path) -> None:
    other: list[TlsKeyring] = []

    async def ask(request: bytes) -> bytes:
        return other[0].sign(request, "a", ["10.0.0.7"])

    kept = Kept(tmp_path, ask)
    other.append(TlsKeyring(tmp_path / "other", kept.clock))
    other[0].adopt(ca=kept.ring.ca(), ca_key=kept.ring.ca_key())
    (tmp_path / "tls" / "ca.key").unlink()
    first = kept.ring.present()
    later = await kept.at(LIFE / 4)
    assert later.pin == first.pin
    assert later.left(kept.clock.time) == LIFE
    assert kept.told == 1


async def test_what_could_not_be_renewed_is_said_before_it_ends(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    (tmp_path / "tls" / "ca.key").unlink()
    first = await kept.at(LIFE / 4)
    assert TROUBLE not in kept.world.troubles  # there is time
    await kept.at(DAY)
    assert kept.world.troubles[TROUBLE] == (
        f"the certificate of a ends at {first.until};"
        " no other agent is known that could sign a certificate"
    )
    await kept.at(-DAY)
    assert "the certificate of a ended at" in kept.world.troubles[TROUBLE]
    (tmp_path / "tls" / "agent.crt").write_text("nonsense")
    await kept.certificates.look()
    assert "agent.crt has no certificate in it" in kept.world.troubles[TROUBLE]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[certificates]\nlife = "59m"', "certificates.life must be at least 1h, not '59m'"),
        ("[certificates]\nlive = 1", "unknown key certificates.live"),
        ('[certificates]\nkeys = "no"', "certificates.keys must be a boolean, not a string"),
    ],
)
def test_a_wrong_setting_is_named(text: str, words: str) -> None:
    read, [problem] = parse_settings(text)
    assert read.certificates == Settings().certificates
    assert (problem.message, problem.line) == (words, 2)
