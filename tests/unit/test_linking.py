"""Codes and sessions in the fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.events import UserCode, UserLinked, UserUnlinked
from rota.core.fold import apply
from rota.core.linking import (
    ALPHABET,
    MAX_CODES,
    MAX_CODES_EACH,
    MAX_SESSIONS_EACH,
    Linking,
    code_digest,
    fold_linking,
    plain_code,
    shown_code,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Story:
    """Events folded one after the other."""

    def __init__(self) -> None:
        self.linking, self.seq, self.at = Linking(), 0, NOW

    def _fold(self, event: UserCode | UserLinked | UserUnlinked) -> None:
        self.seq += 1
        fold_linking(self.linking, self.seq, event)

    def code(self, user: str, digest: str, network: str = "", minutes: float = 10) -> None:
        until = self.at + timedelta(minutes=minutes)
        event = UserCode(at=self.at, user=user, digest=digest, until=until, network=network)
        self._fold(event)

    def linked(
        self, user: str, who: str, digest: str, network: str = "irc", nick: str = ""
    ) -> None:
        self._fold(
            UserLinked(at=self.at, user=user, network=network, who=who, digest=digest, nick=nick)
        )

    def unlinked(self, user: str, network: str = "", who: str = "") -> None:
        self._fold(UserUnlinked(at=self.at, user=user, network=network, who=who))


def test_a_code_is_read_however_it_is_written() -> None:
    code = ALPHABET[:8]
    assert plain_code(shown_code(code)) == code
    assert plain_code(f" {code[:4].lower()} {code[4:]}\n") == code
    for wrong in ("", code[:7], code + "B", "ABCDEFGH", code[:7] + "0", code[:7] + "é"):
        assert plain_code(wrong) == ""


def test_a_digest_is_of_the_code_and_of_the_cluster() -> None:
    assert code_digest(b"key", "BCDFGHJK") == code_digest(b"key", "BCDFGHJK")
    assert code_digest(b"key", "BCDFGHJK") != code_digest(b"yek", "BCDFGHJK")
    assert code_digest(b"key", "BCDFGHJK") != code_digest(b"key", "BCDFGHJM")


def test_the_first_who_says_a_code_has_used_it() -> None:
    story = Story()
    story.code("ann", "d1")
    story.linked("ann", "session:1", "d1")
    story.linked("ann", "session:2", "d1")
    story.linked("bob", "session:3", "d1")
    story.linked("ann", "session:4", "unknown")
    assert story.linking.session("irc", "session:1") == "ann"
    assert [story.linking.session("irc", f"session:{n}") for n in (2, 3, 4)] == ["", "", ""]
    assert story.linking.session("xmpp", "session:1") == ""
    assert story.linking.codes["d1"].used_by == "session:1"


def test_what_outlasts_a_session_stands_in_the_users_file_alone() -> None:
    story = Story()
    story.code("ann", "d1")
    story.linked("ann", "@ann:example.org", "d1", "matrix")
    assert (story.linking.sessions, story.linking.codes["d1"].used_on) == ({}, "matrix")


def test_codes_are_forgotten_when_their_time_is_over() -> None:
    story = Story()
    story.code("ann", "d1")
    story.at += timedelta(minutes=10)
    story.linked("ann", "session:1", "d1")
    assert (story.linking.codes, story.linking.sessions) == ({}, {})


def test_a_session_ends_alone_or_with_its_network_or_its_user() -> None:
    story = Story()
    for digest, network in (("d1", "irc"), ("d2", "irc"), ("d3", "xmpp"), ("d4", "irc")):
        user = "bob" if digest == "d4" else "ann"
        story.code(user, digest)
        story.linked(user, f"session:{digest}", digest, network)
    story.code("ann", "d5")
    story.unlinked("bob", "irc", "session:d1")  # not his
    assert len(story.linking.of("ann")) == 3
    story.unlinked("ann", "irc", "session:d1")
    assert [who for _, who, _ in story.linking.of("ann")] == ["session:d2", "session:d3"]
    story.unlinked("ann", "irc")
    assert [who for _, who, _ in story.linking.of("ann")] == ["session:d3"]
    assert "d5" in story.linking.codes
    story.unlinked("ann")
    assert (story.linking.of("ann"), "d5" in story.linking.codes) == ([], False)
    assert story.linking.session("irc", "session:d4") == "bob"


def test_a_session_takes_the_place_of_one_that_had_its_nick() -> None:
    story = Story()
    for n, (user, nick) in enumerate([("ann", "a"), ("ann", "b"), ("bob", "a"), ("ann", "a")]):
        story.code(user, f"d{n}")
        story.linked(user, f"session:{n}", f"d{n}", nick=nick)
    assert [who for _, who, _ in story.linking.of("ann")] == ["session:1", "session:3"]
    assert [who for _, who, _ in story.linking.of("bob")] == ["session:2"]


def test_all_of_it_is_bounded() -> None:
    story = Story()
    for n in range(20):
        story.code("ann", f"a{n}")
    assert list(story.linking.codes) == [f"a{n}" for n in range(20 - MAX_CODES_EACH, 20)]
    for n in range(MAX_CODES + 10):
        story.code(f"u{n}", f"b{n}")
    assert (len(story.linking.codes), "a19" in story.linking.codes) == (MAX_CODES, False)
    for n in range(MAX_SESSIONS_EACH + 5):
        story.code("ann", f"c{n}")
        story.linked("ann", f"session:{n}", f"c{n}")
    found = [who for _, who, _ in story.linking.of("ann")]
    assert found == [f"session:{n}" for n in range(5, MAX_SESSIONS_EACH + 5)]


def test_a_snapshot_keeps_it() -> None:
    cluster = Cluster()
    code = UserCode(at=NOW, user="ann", digest="d", until=NOW + timedelta(minutes=10))
    apply(cluster, 1, code)
    apply(cluster, 2, UserLinked(at=NOW, user="ann", network="irc", who="session:1", digest="d"))
    again = decode_picture(encode_picture(cluster))
    assert again is not None
    assert again.picture.linking == cluster.picture.linking
    assert again.picture.linking.session("irc", "session:1") == "ann"
    assert again.picture.linking.seq == 2


USERS = st.sampled_from(["ann", "bob"])
NETWORKS = st.sampled_from(["", "irc", "xmpp"])
WHOS = st.sampled_from(["", "session:1", "session:2", "@ann"])
DIGESTS = st.sampled_from(["d1", "d2", "d3"])
MOMENTS = st.integers(0, 30).map(lambda minutes: NOW + timedelta(minutes=minutes))
EVENTS = st.one_of(
    st.builds(UserCode, at=MOMENTS, user=USERS, digest=DIGESTS, until=MOMENTS, network=NETWORKS),
    st.builds(UserLinked, at=MOMENTS, user=USERS, network=NETWORKS, who=WHOS, digest=DIGESTS),
    st.builds(UserUnlinked, at=MOMENTS, user=USERS, network=NETWORKS, who=WHOS),
)


@given(st.lists(EVENTS, max_size=30))
def test_nobody_has_an_identity_without_a_code_of_his(
    events: list[UserCode | UserLinked | UserUnlinked],
) -> None:
    linking = Linking()
    given_out: dict[str, set[str]] = {}
    for seq, event in enumerate(events, 1):
        if isinstance(event, UserCode) and event.digest not in linking.codes:
            given_out.setdefault(event.digest, set()).add(event.user)
        before = {(n, w): s.user for n, it in linking.sessions.items() for w, s in it.items()}
        fold_linking(linking, seq, event)
        after = {(n, w): s.user for n, it in linking.sessions.items() for w, s in it.items()}
        for key, user in after.items():
            if before.get(key) != user:
                assert isinstance(event, UserLinked)
                assert user in given_out[event.digest]
                assert linking.codes[event.digest].used_by == event.who
