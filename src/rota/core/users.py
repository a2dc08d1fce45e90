"""``users/NAME.toml``: people, what each may, and by what networks and commits know them.

An e-mail address and an identity of a chat network belong to one user alone. What two users claim
is nobody's, so that a file which came around the checks makes nobody another one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from rota.core import fields
from rota.core.calendar_file import zone_name
from rota.core.fields import Field, FieldError, Spot
from rota.core.preferences import PREFERENCES, Preference
from rota.core.problem import Problem
from rota.core.quiet import Quiet
from rota.core.targets import MAIL, address_fault, network_fault
from rota.core.toml_document import Source, read_document

USERS = "users/"
#: In place of a network: the provider of identities that people log in by.
LOGIN = "login"
#: What a user may, each including the former: names of :class:`rota.core.rights.Role`.
ROLES = ("none", "viewer", "builder", "maintainer", "admin")
#: ASCII alone: no two names look alike and are not the same.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: What an identity begins with that lasts as long as somebody's session on a network, and no longer.
SESSION = "session:"
MAX_CHARACTERS = 16 * 1024
MAX_EMAILS = 50
MAX_LOGINS = 20
MAX_IDENTITIES = 50
MAX_IDENTITY = 255


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``users/NAME.toml`` says.

    ``preferences`` are ``None`` where the file says nothing of them: then what is usual holds.
    """

    role: str = "builder"
    emails: tuple[str, ...] = ()  # those of commits too; mail goes to the first
    timezone: str = ""  # of quiet hours; UTC if empty
    logins: tuple[str, ...] = ()  # subjects of the provider of identities
    chat: dict[str, tuple[str, ...]] = {}  # by network: who this is there
    quiet: Quiet = Quiet()
    preferences: tuple[Preference, ...] | None = None


class Claim(msgspec.Struct, frozen=True):
    """What a file says is its user's alone, at that place: an identity, or a mail address."""

    network: str
    value: str
    line: int = 0
    column: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What two claims share that are for the same."""
        return (self.network, folded(self.value) if self.network == MAIL else self.value)

    def __str__(self) -> str:
        return self.value if self.network == MAIL else f"{self.value} on {self.network}"


class Users(Mapping[str, User]):
    """All users by name, and who has which address or identity.

    Cost: linear in the users to make, a look-up to ask.
    """

    def __init__(self, files: Mapping[str, tuple[User, tuple[Claim, ...]]] = {}) -> None:
        self._files = files
        claims = {user_path(name): claims for name, (_, claims) in files.items()}
        self.problems = tuple(twins(claims, claims))
        owners: dict[tuple[str, str], str] = {}
        for name, (_, its) in files.items():
            for key in {claim.key for claim in its}:
                owners[key] = "" if key in owners else name
        self._owners = owners

    def __getitem__(self, name: str) -> User:
        return self._files[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def is_of(self, files: Mapping[str, tuple[User, tuple[Claim, ...]]]) -> bool:
        """Whether these users are those of the files."""
        return self._files == files

    def rivals(self, name: str, claims: Iterable[Claim]) -> Iterator[Problem]:
        """Yield a problem for what a user would claim and another one has. Cost: as many look-ups."""
        path = user_path(name)
        spelled = next((it for it in self if it.casefold() == name.casefold() and it != name), None)
        if spelled is not None and name not in self:
            yield Problem(
                path, 0, 0, f"there is also {user_path(spelled)}, which differs only in case"
            )
        for claim in claims:
            owner = self._owners.get(claim.key, name)
            if owner not in ("", name):
                yield _rivalry(path, claim, user_path(owner))

    def find(self, network: str, who: str) -> str:
        """Return the name of the user that a network knows as ``who``; empty if there is none."""
        return self._owners.get((network, who), "") if who and network != MAIL else ""

    def by_email(self, email: str) -> str:
        """Return the name of the user who has an e-mail address; empty if there is none."""
        return self._owners.get((MAIL, folded(email)), "")


def folded(email: str) -> str:
    """Return an address as it is compared: no provider tells people apart by case."""
    return email.casefold()


def user_path(name: str) -> str:
    """Return where a user stands on ``main``."""
    return f"{USERS}{name}.toml"


def user_name(path: str) -> str:
    """Return the name of the user that the file at ``path`` is; empty if it is none."""
    name = path.removeprefix(USERS).removesuffix(".toml")
    is_one = path.startswith(USERS) and path.endswith(".toml")
    return name if is_one and user_name_fault(name) is None else ""


def user_name_fault(name: str) -> str | None:
    """Say what a user's name is made of, if this is none; ``None`` if it is."""
    return None if NAME.fullmatch(name) else "1 to 63 letters, digits and . _ -, such as ann"


def identity_fault(who: str) -> str | None:
    """Say why no file can name an identity of a network, or ``None`` if one can."""
    if who.startswith(SESSION):
        return f"lasts as long as a session, and no file can name it: {fields.printed_value(who)}"
    if not who.isprintable() or who != who.strip() or not 0 < len(who) <= MAX_IDENTITY:
        return f"is no identity on a network: {fields.printed_value(who)}"
    return None


def parse_user(text: str, path: str) -> tuple[User | None, tuple[Claim, ...], tuple[Problem, ...]]:
    """Return what a user's file says and claims, or all that is wrong with it. Never raises.

    Of a faulty file nothing is taken: its role could be less than the one by default.
    """
    if not user_name(path):
        hint = f"{USERS}NAME.toml, NAME of 1 to 63 letters, digits and . _ -"
        return None, (), (Problem(path, 0, 0, "no user's name", hint),)
    if len(text) > MAX_CHARACTERS:
        message = f"{len(text)} characters, the limit is {MAX_CHARACTERS}"
        return None, (), (Problem(path, 0, 0, message),)
    source = Source(path, tuple(line.removesuffix("\r") for line in text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    spot = Spot(document, problems)
    values = fields.read_table(document.table, spot, _USER)
    if problems:
        return None, (), tuple(sorted(problems))
    claims = tuple(_claims(document.table, spot))
    return User(**values), claims, ()


def claims_of(data: bytes) -> tuple[Claim, ...]:
    """Return what a file claims that was checked before, without places; nothing if it is broken."""
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return ()
    claims = []
    for network, value in _claimed(table):
        found = value if isinstance(value, list) else [value]
        claims += [Claim(network, it) for it in found if isinstance(it, str)]
    return tuple(claims)


def twins(
    files: Mapping[str, tuple[Claim, ...]], among: Mapping[str, tuple[Claim, ...]]
) -> Iterator[Problem]:
    """Yield a problem for what a user of ``files`` claims and another of ``among`` has.

    Both are by path. Names that differ only in case are one name, too: half of all disks hold no
    such two files.
    """
    spelled: dict[str, set[str]] = {}
    owners: dict[tuple[str, str], set[str]] = {}
    for path, claims in among.items():
        spelled.setdefault(path.casefold(), set()).add(path)
        for claim in claims:
            owners.setdefault(claim.key, set()).add(path)
    for path, claims in files.items():
        for other in sorted(spelled.get(path.casefold(), set()) - {path})[:1]:
            yield Problem(path, 0, 0, f"there is also {other}, which differs only in case")
        for claim in claims:
            for other in sorted(owners.get(claim.key, set()) - {path})[:1]:
                yield _rivalry(path, claim, other)


def _rivalry(path: str, claim: Claim, other: str) -> Problem:
    text = f"{claim} belongs to {user_name(other) or other} too ({other})"
    hint = "take it out of one of them: nobody could tell who is meant"
    return Problem(path, claim.line, claim.column, text, hint)


def _claimed(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield MAIL, table.get("emails", [])
    yield LOGIN, table.get("logins", [])
    chat = table.get("chat", {})
    if isinstance(chat, dict):
        yield from chat.items()


def _claims(table: Mapping[str, Any], spot: Spot) -> Iterator[Claim]:
    """Yield what a table without faults claims, with places."""
    for network, value in _claimed(table):
        own = {MAIL: "emails", LOGIN: "logins"}.get(network)
        here = spot.at(own) if own is not None else spot.at("chat").at(network)
        found = value if isinstance(value, list) else [value]
        for index, text in enumerate(found):
            at = here.at(index) if isinstance(value, list) else here
            place = spot.document.places.value(at.path)
            problem = spot.document.source.problem(place, "")
            yield Claim(network, text, problem.line, problem.column)


def _email(value: Any, spot: Spot) -> str:
    email = fields.text(value, spot)
    if (fault := address_fault(email)) is not None:
        raise FieldError(f"{fault}: {fields.printed_value(email)}")
    return email


def _emails(value: Any, spot: Spot) -> tuple[str, ...]:
    emails = fields.one_or_more(_email)(value, spot)
    _refuse_many(emails, MAX_EMAILS)
    _refuse_doubles([folded(email) for email in emails])
    return emails


def _login(value: Any, spot: Spot) -> str:
    who = fields.text(value, spot)
    if not who.isprintable() or not 0 < len(who) <= MAX_IDENTITY:
        raise FieldError(f"is no subject of a provider: {fields.printed_value(who)}")
    return who


def _logins(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.one_or_more(_login)(value, spot)
    _refuse_many(found, MAX_LOGINS)
    _refuse_doubles(found)
    return found


def _identity(value: Any, spot: Spot) -> str:
    who = fields.text(value, spot)
    if (fault := identity_fault(who)) is not None:
        raise FieldError(fault, "as the network writes it, such as @ann:example.org")
    return who


def _identities(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.one_or_more(_identity)(value, spot)
    _refuse_many(found, MAX_IDENTITIES)
    _refuse_doubles(found)
    return found


def _refuse_many(values: Collection[str], limit: int) -> None:
    if len(values) > limit:
        raise FieldError(f"has {len(values)} of them, the limit is {limit}")


def _refuse_doubles(values: Collection[str]) -> None:
    double = next((it for it in values if list(values).count(it) > 1), None)
    if double is not None:
        raise FieldError(f"has {fields.printed_value(double)} twice", "leave one of them out")


def _chat_fault(name: str) -> str | None:
    if name == MAIL:
        return 'is no chat network: write emails = ["…"]'
    if name == LOGIN:
        return 'is no chat network: write logins = ["…"]'
    return network_fault(name)


_USER = {
    "role": Field("role", fields.one_of(ROLES), 'role = "builder"'),
    "emails": Field("emails", _emails, 'emails = ["ann@example.org"]'),
    "logins": Field("logins", _logins, 'logins = ["00u1abc"]'),
    "timezone": Field("timezone", zone_name, 'timezone = "Europe/Berlin"'),
    "chat": Field(
        "chat",
        fields.table_of(_chat_fault, _identities),
        '[chat] with matrix = ["@ann:example.org"]',
    ),
    **PREFERENCES,
}
