"""Users: their files, and who has which address or identity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_definitions import texts

from rota.core.definitions import EMPTY, check_changes, check_tree
from rota.core.users import ROLES, User, claims_of, parse_user
from rota.service.verbs import Role

ANN = b"""\
# Ann, of the web team
role = "maintainer"
emails = ["ann@example.org", "Ann.B@corp.example"]
timezone = "Europe/Berlin"
[chat]
matrix = ["@ann:example.org"]
irc = "ann"
"""


def faults(text: str, path: str = "users/ann.toml") -> list[str]:
    user, claims, problems = parse_user(text, path)
    assert (user is None) == bool(problems)
    assert not (problems and claims)
    return [str(problem) for problem in problems]


def test_roles_are_those_of_principals() -> None:
    assert tuple(role.name.lower() for role in Role) == ROLES


def test_a_users_file_is_read() -> None:
    found, problems = check_tree({"users/ann.toml": ANN, "users/bob.toml": b""})
    assert problems == ()
    assert dict(found.users) == {
        "ann": User(
            role="maintainer",
            emails=("ann@example.org", "Ann.B@corp.example"),
            timezone="Europe/Berlin",
            chat={"matrix": ("@ann:example.org",), "irc": ("ann",)},
        ),
        "bob": User(),
    }
    assert found.users["bob"].role == "builder"
    assert found.users.find("matrix", "@ann:example.org") == "ann"
    assert found.users.by_email("ANN@example.org") == "ann"


def test_an_identity_is_taken_as_the_network_writes_it() -> None:
    users = check_tree({"users/ann.toml": ANN})[0].users
    for network, who in (
        ("matrix", "@Ann:example.org"),
        ("irc", "@ann:example.org"),
        ("irc", "\u0430nn"),  # a Cyrillic letter that looks like an a
        ("irc", "ann "),
        ("irc", ""),
        ("mail", "ann@example.org"),
        ("slack", "ann"),
    ):
        assert users.find(network, who) == "", (network, who)


def test_each_fault_is_told_with_its_place() -> None:
    assert faults('rolle = "admin"\nrole = "root"\nemails = "nobody"\ntimezone = "Mars"\n') == [
        "users/ann.toml:1:1: unknown key rolle (did you mean 'role'?)",
        "users/ann.toml:2:8: role cannot be 'root' (known: none, viewer, builder, maintainer, admin)",
        (
            "users/ann.toml:3:10: emails is no address, such as ann@example.org: 'nobody' "
            '(such as emails = ["ann@example.org"])'
        ),
        "users/ann.toml:4:12: timezone is no time zone: 'Mars' (did you mean 'Europe/Paris'?)",
    ]
    assert faults('[chat]\nmail = "a@b"\n"x y" = "z"\nirc = ["a", "session:1", "b\\u0007"]\n') == [
        'users/ann.toml:2:1: chat.mail is no chat network: write emails = ["…"]',
        (
            "users/ann.toml:3:1: chat.'x y' is no name of a network: up to 40 small letters, digits, "
            "- and _, the first a letter"
        ),
        (
            "users/ann.toml:4:13: chat.irc[2] lasts as long as a session, and no file can name it: "
            "'session:1' (as the network writes it, such as @ann:example.org)"
        ),
        (
            "users/ann.toml:4:26: chat.irc[3] is no identity on a network: 'b\\x07' "
            "(as the network writes it, such as @ann:example.org)"
        ),
    ]
    assert faults('emails = ["a@b", "A@b"]\n') == [
        "users/ann.toml:1:10: emails has 'a@b' twice (leave one of them out)"
    ]


def test_an_address_with_what_nobody_sees_is_none() -> None:
    for odd in ("a\\u0000@b", "a\\n@b", "a\\u202e@b", "a b@c", "a@b@c", "@b", "a@", "a\\u200b@b"):
        assert len(faults(f'emails = ["{odd}"]\n')) == 1, odd
    assert faults('emails = ["jürgen@example.org"]\n') == []


def test_what_is_no_users_name_is_none() -> None:
    for path in (
        "users/ann",
        "users/a/b.toml",
        "users/.toml",
        "users/\u0430nn.toml",
        "users/a b.toml",
    ):
        assert faults("", path) == [
            f"{path}: no user's name (users/NAME.toml, NAME of 1 to 63 letters, digits and . _ -)"
        ]


def test_of_a_faulty_file_no_role_is_taken() -> None:
    found, problems = check_tree({"users/ann.toml": b'role = "viewr"\nemails = ["a@b"]\n'})
    assert (dict(found.users), len(problems)) == ({}, 1)
    assert found.users.by_email("a@b") == ""


def test_a_huge_file_is_refused() -> None:
    assert faults("#" * 16_385) == ["users/ann.toml: 16385 characters, the limit is 16384"]
    many = ", ".join(f'"a{n}@b"' for n in range(51))
    assert faults(f"emails = [{many}]") == [
        (
            "users/ann.toml:1:10: emails has 51 of them, the limit is 50 "
            '(such as emails = ["ann@example.org"])'
        )
    ]


def test_two_users_with_one_address_or_identity_are_both_named_and_neither_has_it() -> None:
    files = {
        "users/ann.toml": ANN,
        "users/bob.toml": b'emails = ["b@c", "ann@EXAMPLE.org"]\n[chat]\nirc = "ann"\n',
        "users/eve.toml": b'[chat]\nslack = "ann"\n',
    }
    hint = "(take it out of one of them: nobody could tell who is meant)"
    assert texts(files) == [
        f"users/ann.toml:3:11: ann@example.org belongs to bob too (users/bob.toml) {hint}",
        f"users/ann.toml:7:7: ann on irc belongs to bob too (users/bob.toml) {hint}",
        f"users/bob.toml:1:18: ann@EXAMPLE.org belongs to ann too (users/ann.toml) {hint}",
        f"users/bob.toml:3:7: ann on irc belongs to ann too (users/ann.toml) {hint}",
    ]
    users = check_tree(files)[0].users
    assert (users.find("irc", "ann"), users.by_email("ann@example.org")) == ("", "")
    assert (users.find("slack", "ann"), users.by_email("b@c")) == ("eve", "bob")


def test_names_that_differ_only_in_case_are_refused() -> None:
    assert texts({"users/ann.toml": b"", "users/Ann.toml": b""}) == [
        "users/Ann.toml: there is also users/ann.toml, which differs only in case",
        "users/ann.toml: there is also users/Ann.toml, which differs only in case",
    ]


def test_a_change_is_held_against_users_that_stay() -> None:
    bob = b'emails = ["ann@example.org"]\n'
    problems = check_changes({"users/bob.toml": bob}, users={"users/ann.toml": ANN})
    assert [str(it).partition(" (")[0] for it in problems] == [
        "users/bob.toml:1:11: ann@example.org belongs to ann too"
    ]
    # An address moves from one to the other in one change.
    moved = {"users/bob.toml": bob, "users/ann.toml": b""}
    assert check_changes(moved, users={"users/ann.toml": ANN}) == ()
    gone = {"users/bob.toml": bob, "users/ann.toml": None}
    assert check_changes(gone, users={"users/ann.toml": ANN}) == ()
    assert check_changes({"users/bob.toml": bob}, users={"users/ann.toml": b"\xff = ["}) == ()


def test_users_that_did_not_change_are_not_looked_at_again() -> None:
    found = check_tree({"users/ann.toml": ANN})[0]
    again = check_tree({"users/ann.toml": ANN, "jobs/a": b"echo\n"}, found)[0]
    assert again.users is found.users
    changed = check_tree({"users/ann.toml": ANN + b"#\n"}, found)[0]
    assert changed.users is found.users
    assert check_tree({}, found)[0].users.find("irc", "ann") == ""
    assert len(EMPTY.users) == 0


def test_ten_thousand_users_are_known_by_what_they_claim() -> None:
    files = {
        f"users/u{n}.toml": f'emails = ["u{n}@example.org"]\n[chat]\nirc = "u{n}"\n'.encode()
        for n in range(10_000)
    }
    found, problems = check_tree(files)
    assert (len(found.users), problems) == (10_000, ())
    for n in range(10_000):
        assert found.users.by_email(f"u{n}@example.org") == f"u{n}"
        assert found.users.find("irc", f"u{n}") == f"u{n}"


WORDS = st.text("abc@.:\"'\\\n\t =[]{}#\x00é", max_size=40)


@given(st.lists(st.sampled_from(["role", "emails", "chat", "timezone", "x"])), WORDS)
def test_no_file_is_too_odd_to_be_answered(keys: list[str], rest: str) -> None:
    text = "".join(f"{key} = {rest}\n" for key in keys) + rest
    user, claims, problems = parse_user(text, "users/ann.toml")
    assert (user is None) == bool(problems)
    if user is not None:
        # What is read in haste of a good file is what is read with care.
        light = claims_of(text.encode())
        assert [it.key for it in light] == [it.key for it in claims]
