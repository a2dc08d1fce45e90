"""Join tokens: how they are written, what is said of broken ones, and what each still admits."""

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rota.core.address import Address, parse_address
from rota.core.join_token import JoinToken, parse_join_token
from rota.errors import DeniedError, InputError, NotFoundError, UnavailableError
from rota.service.join_tokens import JoinTokens

CA = "0123456789abcdef" * 4
SECRET = "sEcret_-" * 5 + "abc"
HERE = Address("10.0.0.7", 8010)
TOKEN = f"rota1.{CA}.{SECRET}.10.0.0.7:8010,[fd00::7]:8010,build-1.example:1"
SECRETS = st.text("ABCXYZabcxyz0189_-", min_size=43, max_size=43)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True),
)
ADDRESSES = st.builds(Address, HOSTS, st.integers(1, 65535))


def test_a_token_names_the_ca_the_secret_and_every_address() -> None:
    token = parse_join_token(f" {TOKEN}\n")
    assert (token.ca, token.secret) == (CA, SECRET)
    assert token.addresses == (HERE, Address("fd00::7", 8010), Address("build-1.example", 1))
    assert str(token) == TOKEN
    assert SECRET not in repr(token)


@given(
    st.text("0123456789abcdef", min_size=64, max_size=64),
    SECRETS,
    st.lists(ADDRESSES, min_size=1, max_size=16),
)
def test_what_is_written_is_read_again(ca: str, secret: str, addresses: list[Address]) -> None:
    token = JoinToken(ca, secret, tuple(addresses))
    assert parse_join_token(str(token)) == token


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("", "that is not a join token: one begins with `rota1.`", "rota token create"),
        ("hello", "that is not a join token", "rota token create"),
        ("rota", "that is not a join token", "rota token create"),
        ("rotax.1.2.3", "that is not a join token", "rota token create"),
        (TOKEN.upper(), "that is not a join token", "rota token create"),
        (
            TOKEN.replace("rota1", "rota2"),
            "is of version 2, this agent knows version 1",
            "same ver",
        ),
        ("rota99.", "is of version 99, this agent knows version 1", "same version of rota"),
        ("rota1.", "the join token is cut off: it ends before its address", "copy the whole line"),
        (f"rota1.{CA}", "the join token is cut off", "copy the whole line"),
        (f"rota1.{CA}.{SECRET[:9]}", "the join token is cut off", "copy the whole line"),
        (f"rota1.{CA}.{SECRET}", "the join token is cut off", "copy the whole line"),
        (f"rota1.{CA}.{SECRET}.", "the join token is cut off", "copy the whole line"),
        (TOKEN.replace(CA, CA[1:]), "the join token is damaged", "copy the whole line"),
        (TOKEN.replace(CA, CA[1:] + "g"), "the join token is damaged", "copy the whole line"),
        (TOKEN.replace(SECRET, SECRET[1:]), "the join token is damaged", "copy the whole line"),
        (TOKEN.replace(SECRET, SECRET + "a"), "the join token is damaged", "copy the whole line"),
        (TOKEN + ",", "the join token has a bad address ''", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.10.0.0.7", "the join token has a bad address '10.0.0.7'", "HOST:P"),
        (f"rota1.{CA}.{SECRET}.10.0.0.7:", "a bad address '10.0.0.7:'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.a:0", "a bad address 'a:0'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.a:65536", "a bad address 'a:65536'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.fd00::7:8010", "a bad address 'fd00::7:8010'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.[fd00::7:8010", "a bad address '[fd00::7:8010'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.[10.0.0.7]:8010", "a bad address '[10.0.0.7]:8010'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.a/b:1", "a bad address 'a/b:1'", "HOST:PORT"),
        (f"rota1.{CA}.{SECRET}.u@h:1", "a bad address 'u@h:1'", "HOST:PORT"),
        (TOKEN + ",a:1" * 14, "the join token has 17 addresses, the limit is 16", "token create"),
    ],
)
def test_each_fault_of_a_token_has_its_own_words(text: str, says: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_join_token(text)
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")
    assert SECRET not in caught.value.message


@given(st.text())
def test_nonsense_is_refused_and_never_crashes(text: str) -> None:
    for nonsense in (text, f"rota1.{text}", f"rota1.{CA}.{text}", f"rota1.{CA}.{SECRET}.{text}"):
        with contextlib.suppress(InputError):
            token = parse_join_token(nonsense)
            assert parse_join_token(str(token)) == token


@given(st.integers(0, len(TOKEN.partition(",")[0]) - 2))
def test_a_token_that_was_cut_off_is_refused_or_has_another_port(length: int) -> None:
    cut = TOKEN[:length]
    assume(not re.search(r":\d+$", cut))
    with pytest.raises(InputError):
        parse_join_token(cut)


@given(ADDRESSES)
def test_an_address_is_read_as_it_is_written(address: Address) -> None:
    assert parse_address(str(address)) == address


# -- as they are kept ---------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 24, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0


def kept(tmp_path: Path, clock: Clock | None = None) -> JoinTokens:
    return JoinTokens(tmp_path / "join-tokens.json", clock or Clock())


def create(tokens: JoinTokens, **more: float) -> tuple[str, str]:
    """Return the id and the secret of a new token."""
    uses, valid_s = int(more.get("uses", 0)), more.get("valid_s", 3600.0)
    made, token = tokens.create(by="anna", ca=CA, addresses=[HERE], uses=uses, valid_s=valid_s)
    return made.id, token.secret


def test_a_token_admits_for_an_hour_any_number_of_machines(tmp_path: Path) -> None:
    clock = Clock()
    tokens = kept(tmp_path, clock)
    _, secret = create(tokens)
    for n in range(50):
        tokens.used(tokens.check(secret, f"pin{n}"), f"pin{n}")
    clock.time += timedelta(minutes=59)
    assert tokens.check(secret).by == "anna"
    clock.time += timedelta(minutes=1)
    with pytest.raises(DeniedError, match=r"^the join token has expired$") as caught:
        tokens.check(secret)
    assert caught.value.hint == "make a new one on a member: rota token create"
    assert tokens.list() == []


def test_tokens_outlive_a_restart_and_no_secret_is_written_down(tmp_path: Path) -> None:
    id_, secret = create(kept(tmp_path))
    path = tmp_path / "join-tokens.json"
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    again = kept(tmp_path)
    assert again.check(secret).id == id_
    assert [token.id for token in again.list()] == [id_]


def test_a_token_of_few_uses_counts_machines_and_not_tries(tmp_path: Path) -> None:
    tokens = kept(tmp_path)
    _, secret = create(tokens, uses=2)
    for pin in ("one", "one", "two", "one"):
        tokens.used(tokens.check(secret, pin), pin)
    tokens.check(secret, "two")
    with pytest.raises(DeniedError, match="has been used as often as it may be"):
        tokens.check(secret, "three")
    assert tokens.list() == []


def test_a_revoked_token_is_unknown(tmp_path: Path) -> None:
    tokens = kept(tmp_path)
    (id_, secret), (other, _) = create(tokens), create(tokens)
    assert tokens.revoke(id_).id == id_
    with pytest.raises(DeniedError, match=r"^the join token is not known here$"):
        kept(tmp_path).check(secret)
    with pytest.raises(NotFoundError, match="this agent keeps no join token") as caught:
        tokens.revoke(id_)
    assert "only where it was made" in (caught.value.hint or "")
    assert [token.id for token in tokens.list()] == [other]


@given(st.text(st.characters()))
def test_no_other_secret_is_accepted(text: str) -> None:
    tokens = JoinTokens(Path("/nowhere/join-tokens.json"), Clock())
    with pytest.raises(DeniedError, match="not known here"):
        tokens.check(text)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"valid_s": 0.5}, "a join token can be valid for 1s to 365d, not 0.5 s"),
        ({"valid_s": 1e9}, "a join token can be valid for 1s to 365d"),
        ({"valid_s": float("nan")}, "a join token can be valid for 1s to 365d"),
        ({"uses": -1}, "a join token can be used up to 10000 times, not -1"),
        ({"uses": 10**6}, "a join token can be used up to 10000 times"),
    ],
)
def test_numbers_beyond_their_limits_are_refused(
    tmp_path: Path, more: dict[str, float], says: str
) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        create(kept(tmp_path), **more)
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_cannot_be_kept_is_not_made(tmp_path: Path) -> None:
    tokens = JoinTokens(tmp_path / "gone" / "join-tokens.json", Clock())
    with pytest.raises(UnavailableError, match=r"cannot write .*join-tokens.json"):
        create(tokens)
    assert tokens.list() == []


def test_damaged_tokens_are_lost_and_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "join-tokens.json").write_text("[{")
    tokens = kept(tmp_path)
    assert tokens.list() == []
    assert "are lost, make new ones" in caplog.text
    _, secret = create(tokens)
    kept(tmp_path).check(secret)
