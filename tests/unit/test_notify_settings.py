"""[mail], [outlet.NAME] and [[notify]] in settings.toml, `notify` of headers beside them."""

from __future__ import annotations

import pytest

from rota.core.definitions import check_tree
from rota.core.preferences import Preference
from rota.core.settings import parse_settings
from rota.core.settings_notify import Mail, Outlet, networks_of, outlets_of
from rota.core.targets import Target

MAIL = '[mail]\nserver = "smtp://mail.example.org:587"\nfrom = "rota <rota@example.org>"\n'
OUTLET = '[outlet.pager]\nurl = "pager-url"\n'
JOB = "#!/bin/sh\n# /// script\n# [tool.rota]\n# notify = %s\n# ///\n"


def test_what_is_set_up_is_read() -> None:
    text = MAIL + OUTLET + '[[notify]]\njobs = "web/**"\nto = ["mail:ops@example.org", "pager"]\n'
    settings, problems = parse_settings(text)
    assert not problems
    assert settings.mail == Mail(
        server="smtp://mail.example.org:587", sender="rota <rota@example.org>"
    )
    assert settings.outlet == {"pager": Outlet(url="pager-url")}
    assert settings.notify == (
        Preference(
            to=(Target("mail", "ops@example.org"), Target("pager")),
            on=("first-failure", "fixed", "asked"),
            jobs=("web/**",),
            whose="all",
        ),
    )
    assert list(networks_of(settings)) == ["mail", "pager"]
    assert list(outlets_of(settings)) == ["pager"]
    assert not networks_of(parse_settings("")[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mail]\nserver = "smtp://x"\n', '1:1: mail needs from (such as from = "rota@'),
        (
            MAIL.replace("smtp://", "http://"),
            (
                "2:10: mail.server must be the URL of a mail server, not 'http://mail.example.org:587'"
                " (smtp://mail.example.org:587, smtp+starttls://… or smtps://…)"
            ),
        ),
        (MAIL.replace(":587", ":99999"), "mail.server must be the URL of a mail server"),
        (MAIL.replace("rota@example", "rota at "), "3:8: mail.from must be an address, not"),
        (MAIL.replace('org>"', 'org>\\r\\nBcc: x@y"'), "mail.from must be an address"),
        (
            MAIL + 'user = "rota"\n',
            "mail needs password as well (password is the name of a secret)",
        ),
        (
            MAIL + 'user = "rota"\npassword = "s3cret!"\n',
            "mail.password must be the name of a secret, not the secret itself",
        ),
        (
            '[outlet.pager]\nurl = "json://host/key"\n',
            "2:7: outlet.pager.url must be the name of a secret, not the secret itself",
        ),
        ("[outlet.pager]\n", 'outlet.pager needs url (such as url = "pager-url", the name'),
        ('[outlet.mail]\nurl = "x"\n', "outlet.mail cannot be an outlet: it stands for e-mail"),
        ('[outlet.Big]\nurl = "x"\n', "outlet.Big is no name of a network"),
        (
            '[chat.pager]\nkind = "irc"\nserver = "irc"\n' + OUTLET,
            "outlet.pager has the name of a chat network (targets could not tell them apart)",
        ),
        (
            OUTLET + '[[notify]]\nto = "irc:#web"\n',
            (
                "4:6: notify[1].to names 'irc', by which nobody can be told "
                "(settings.toml has no [chat.irc] or [outlet.irc])"
            ),
        ),
        (
            OUTLET + '[[notify]]\nto = "pagr"\n',
            "names 'pagr', by which nobody can be told (did you",
        ),
        (
            OUTLET + '[[notify]]\nto = ["pager", "mail:a@b.example"]\n',
            (
                "4:16: notify[1].to[2] names 'mail', by which nobody can be told "
                "(settings.toml has no [mail])"
            ),
        ),
        (
            OUTLET + '[[notify]]\nto = "pager:#x"\n',
            "notify[1].to names a room of 'pager', which is an outlet (write pager alone)",
        ),
        (
            '[chat.irc]\nserver = "irc"\n[[notify]]\nto = "irc"\n',
            "notify[1].to names no room of 'irc' (such as irc:#web, or irc:@ann)",
        ),
    ],
)
def test_what_is_said_of_a_wrong_one(text: str, said: str) -> None:
    _, problems = parse_settings(text)
    assert [problem for problem in map(str, problems) if said in problem], list(map(str, problems))


def problems_of(**files: str) -> list[str]:
    return [str(it) for it in check_tree({k: v.encode() for k, v in files.items()})[1]]


def test_channels_of_a_header_are_held_against_the_settings() -> None:
    files = {"settings.toml": MAIL, "jobs/web": JOB % '[{ to = "irc:#web" }]'}
    assert problems_of(**files) == [
        (
            "jobs/web: notify: irc:#web names 'irc', by which nobody can be told "
            "(settings.toml has no [chat.irc] or [outlet.irc])"
        )
    ]
    files["jobs/web"] = JOB % '[{ to = "mail:@an" }]'
    files["users/ann.toml"] = 'emails = ["ann@example.org"]\n'
    assert problems_of(**files) == [
        "jobs/web: notify: no user is called 'an' (did you mean 'ann'?)"
    ]
    files["jobs/web"] = JOB % '[{ to = "mail:@ann" }]'
    assert problems_of(**files) == []
    files["settings.toml"] += '[[notify]]\nto = "mail:@bob"\n'
    assert problems_of(**files) == [
        "settings.toml: notify: no user is called 'bob' (make one: rota user set bob)"
    ]
