"""A user's file is changed where it has to be, and stays as it was written elsewhere."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rota.core.preferences import OCCASIONS, Preference
from rota.core.quiet import Quiet
from rota.core.targets import Target
from rota.core.user_text import rewritten
from rota.core.users import ROLES, User, parse_user

HAND = """\
# Ann, of the web team

role = "builder"  # since May
emails = [
  "ann@example.org",  # work
  # she commits with this one as well
  "a@home.example"  # home
]

# when she sleeps
[quiet]
from = "22:00"
to = "07:00"  # early bird

# all of web
[[notify]]
jobs = "web/**"
whose = "all"
to = "irc:#web"

# and hers
[[notify]]
to = ["mail"]

[chat]
# who she is there
irc = "ann"
"""


def read(text: str) -> User:
    user, _, problems = parse_user(text, "users/ann.toml")
    assert problems == (), text
    assert user is not None
    return user


def changed(text: str, **values: object) -> str:
    before = read(text)
    after = replace(before, **values)
    done = rewritten(text, before, after)
    assert read(done) == after, done
    return done


def differing(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return the lines that are gone, and those that are new."""
    before, after = old.split("\n"), new.split("\n")
    return (
        [line for line in before if line not in after],
        [line for line in after if line not in before],
    )


def test_nothing_changes_where_nothing_is_to_change() -> None:
    assert changed(HAND) == HAND


def test_a_new_file_is_plain() -> None:
    after = User(emails=("a@b",), chat={"irc": ("ann",)}, preferences=())
    assert rewritten(None, User(), after) == dedent("""\
        role = "builder"
        emails = ["a@b"]
        notify = []

        [chat]
        irc = ["ann"]
    """)


def test_one_line_changes_and_keeps_its_remark() -> None:
    done = changed(HAND, role="admin", timezone="Europe/Berlin")
    assert differing(HAND, done) == (
        ['role = "builder"  # since May'],
        ['role = "admin"  # since May', 'timezone = "Europe/Berlin"'],
    )
    # A key of no table stands before the first table, and not between a table and its comment.
    assert done.index("timezone") < done.index("# when she sleeps")


def test_a_list_with_lines_of_its_own_keeps_them() -> None:
    done = changed(HAND, emails=("ann@example.org", "a@home.example", "new@example.org"))
    assert differing(HAND, done) == (
        ['  "a@home.example"  # home'],
        ['  "a@home.example",  # home', '  "new@example.org",'],
    )
    done = changed(HAND, emails=("a@home.example",))
    assert differing(HAND, done) == (['  "ann@example.org",  # work'], [])
    assert differing(HAND, changed(HAND, emails=()))[1] == []


def test_an_identity_comes_and_goes_in_its_table() -> None:
    done = changed(HAND, chat={"irc": ("ann",), "matrix": ("@ann:example.org",)})
    assert differing(HAND, done) == ([], ['matrix = ["@ann:example.org"]'])
    assert changed(done, chat={"irc": ("ann",)}) == HAND
    done = changed(HAND, chat={"irc": ("ann", "ann_")})
    assert differing(HAND, done) == (['irc = "ann"'], ['irc = ["ann", "ann_"]'])


def test_preferences_come_last_and_go_with_what_is_said_above_them() -> None:
    both = read(HAND).preferences
    assert both is not None
    third = Preference(to=(Target("matrix"),), on=("failed",))
    done = changed(HAND, preferences=(*both, third))
    assert done == HAND + '\n[[notify]]\non = ["failed"]\nto = ["matrix"]\n'
    done = changed(HAND, preferences=both[1:])
    assert "# all of web" not in done
    assert "# and hers" in done
    assert differing(HAND, done)[1] == []
    done = changed(HAND, preferences=())
    assert ("[[notify]]" in done, "notify = []" in done) == (False, True)
    assert changed(done, preferences=(third,)).count("notify") == 1
    assert "notify" not in changed(HAND, preferences=None)


def test_quiet_hours_change_in_place_and_go_whole() -> None:
    done = changed(HAND, quiet=Quiet(start=21 * 60, end=7 * 60, days=(5, 6)))
    assert differing(HAND, done) == (
        ['from = "22:00"'],
        ['from = "21:00"', 'days = ["sat", "sun"]'],
    )
    done = changed(HAND, quiet=Quiet())
    assert differing(HAND, done)[1] == []
    assert "# when she sleeps" not in done


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only a word\n",
        'role = "admin"',
        'chat = { irc = "ann", xmpp = ["a@b"] }\nnotify = [{ to = "irc" }]\n',
        'chat.irc = "ann"\nquiet.from = "22:00"\nquiet.to = "07:00"\nrole = "viewer"\n',
        'quiet = { days = ["sun"] }\nnotify = []\n',
        HAND,
        HAND.replace("\n", "\r\n"),
        HAND + HAND.partition("# and hers\n")[2].partition("[chat]")[0],
        '[chat]\nirc = [\n"ann"\n]\n#end\n',
        'emails = ["a@b", # one\n"c#d@e",]\n',
        '"role" = "viewer"\n[ chat ]\n"irc" = \'ann\'\n[[ notify ]]\nto = "mail"\n',
        '[[notify]]\nto = [\n  "irc",\n]\n[[notify]]\nto="mail"\n[quiet]\ndays=["mon"]\n',
    ],
)
@settings(max_examples=40)
@given(
    st.sampled_from(ROLES),
    st.lists(st.sampled_from(["a@b", "x@y", "c#d@e"]), unique=True),
    st.dictionaries(
        st.sampled_from(["irc", "xmpp", "matrix"]),
        st.lists(st.sampled_from(["ann", 'q"\\\u00e9#', "@a:b"]), min_size=1, unique=True),
    ),
    st.sampled_from(
        [Quiet(), Quiet(start=1320, end=420), Quiet(days=(5, 6)), Quiet(60, 120, (0,))]
    ),
    st.none()
    | st.lists(
        st.builds(
            Preference,
            to=st.sampled_from([(Target("irc"),), (Target("mail"), Target("irc", "#web"))]),
            on=st.sampled_from([(it,) for it in OCCASIONS]),
            jobs=st.sampled_from([("**",), ("web/**",), ("web/*", "!web/x")]),
            whose=st.sampled_from(["mine", "all"]),
        ),
        max_size=3,
    ),
)
def test_whatever_is_to_be_said_is_said_in_any_layout(
    text: str,
    role: str,
    emails: list[str],
    chat: dict[str, list[str]],
    quiet: Quiet,
    preferences: list[Preference] | None,
) -> None:
    after = User(
        role=role,
        emails=tuple(emails),
        chat={network: tuple(it) for network, it in chat.items()},
        quiet=quiet,
        preferences=None if preferences is None else tuple(preferences),
    )
    before = read(text)
    assert read(rewritten(text, before, after)) == after, rewritten(text, before, after)
