"""Secrets: what headers ask for, what the store says of one, and whom it is given to."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rota.core.build import Build, Trigger
from rota.core.definitions import check_changes, check_tree
from rota.core.header import parse_header
from rota.core.masks import Masks
from rota.core.scm import Source
from rota.core.secret_use import SecretUse
from rota.core.secrets import (
    MAX_VALUE,
    PAD,
    Rules,
    SecretFile,
    bind,
    encode_recipient,
    encode_secret,
    job_refusal,
    parse_recipient,
    parse_secret,
    refusal,
    source_refusal,
    unbind,
    value_fault,
)
from rota.core.settings import parse_settings
from rota.core.states import State

AT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
BUILD = Build(id="b", job="web/deploy", number=1, state=State.RUNNING, requested_at=AT)
KEY = "age1" + "q" * 58


def script(line: str) -> str:
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {line}\n# ///\n"


def uses(line: str) -> tuple[SecretUse, ...]:
    job, problems = parse_header(script(line), name="j", path="j")
    assert job is not None, problems
    return tuple(replace(use, line=0, column=0) for use in job.spec.secrets)


def faults(line: str) -> list[str]:
    return [str(it) for it in parse_header(script(line), name="j", path="j")[1]]


# -- headers --------------------------------------------------------------------------------------


def test_a_header_names_secrets_by_name_alone_or_as_tables() -> None:
    assert uses('secrets = ["NPM_TOKEN", { name = "deploy.key", file = true, env = "KEY" }]') == (
        SecretUse("NPM_TOKEN", env="NPM_TOKEN"),
        SecretUse("deploy.key", env="KEY", file="deploy.key"),
    )
    assert uses('secrets = [{ name = "A", file = "id_rsa", optional = true }]') == (
        SecretUse("A", env="A", file="id_rsa", optional=True),
    )
    assert uses('secrets = [{ name = "vault:kv/web#token", env = "T", file = true }]') == (
        SecretUse("kv/web#token", provider="vault", env="T", file="web-token"),
    )
    assert uses('secrets = [{ name = "vault:kv/web#token", env = "T" }]')[0].ref == (
        "vault:kv/web#token"
    )


def test_a_use_knows_where_it_stands() -> None:
    job, _ = parse_header(script('secrets = ["A", { env = "X", name = "B" }]'), name="j", path="j")
    assert job is not None
    assert [(use.line, use.column) for use in job.spec.secrets] == [(4, 14), (4, 39)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("secrets = 'A'", "j:4:13: secrets must be an array, not a string"),
        (
            "secrets = [1]",
            (
                "j:4:14: secrets[1] must be a string or a table, not an integer "
                '(a name, or { name = "deploy-key", file = true, env = "KEY" })'
            ),
        ),
        (
            "secrets = ['a b']",
            (
                "j:4:14: secrets[1] is no secret's name: 'a b' "
                "(1 to 100 letters, digits and . _ -, such as NPM_TOKEN)"
            ),
        ),
        (
            "secrets = ['deploy-key']",
            (
                "j:4:14: secrets[1] is no name of a variable: 'deploy-key' "
                '(say which: { name = "deploy-key", env = "DEPLOY_KEY" })'
            ),
        ),
        (
            "secrets = ['vault:kv/x#y']",
            (
                "j:4:14: secrets[1] is no name of a variable: 'vault:kv/x#y' "
                '(say which: { name = "vault:kv/x#y", env = "KV_X_Y" })'
            ),
        ),
        (
            "secrets = [{ name = 'A', env = 'A=B' }]",
            "j:4:34: secrets[1].env is no name of a variable: letters, digits and _, no digit first: 'A=B'",
        ),
        (
            "secrets = [{ name = 'A', env = 'ROTA_X' }]",
            "j:4:34: secrets[1].env is reserved: names in ROTA_ are set by the agent: 'ROTA_X'",
        ),
        (
            "secrets = [{ name = 'A', file = '../x' }]",
            (
                "j:4:35: secrets[1].file is no file's name: '../x' "
                "(true, or what the file is called: letters, digits and . _ -)"
            ),
        ),
        ("secrets = [{ env = 'A' }]", 'j:4:14: secrets[1] needs name (such as name = "NPM_TOKEN")'),
        (
            "secrets = ['A', { name = 'B', env = 'A' }]",
            "j:4:19: secrets[2] has the variable A again (give it another one)",
        ),
        (
            "secrets = [{ name = 'vault:-x', env = 'A' }]",
            "j:4:23: secrets[1].name asks for what starts with a dash, which programs take for an option",
        ),
        (
            "secrets = [{ name = 'Vault:x', env = 'A' }]",
            "j:4:23: secrets[1].name names a provider that is no name: small letters, digits, - and _: 'Vault'",
        ),
        (
            "secrets = ['A']\n# env = { A = 'x' }",
            (
                "j:4:14: secrets[1] has the variable A, which is of env as well "
                "(give it another one: env = …)"
            ),
        ),
        (
            "secrets = ['A']\n# params = { A = 'x' }",
            (
                "j:4:14: secrets[1] has the variable A, which is of a parameter as well "
                "(give it another one: env = …)"
            ),
        ),
    ],
)
def test_a_fault_in_secrets_is_told_with_its_place(line: str, fault: str) -> None:
    [found] = faults(line)
    assert found.startswith(fault)


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "source", "why"),
    [
        (Rules(), None, None),
        (Rules(jobs=("web/*",)), None, None),
        (
            Rules(jobs=("web/*", "!web/deploy")),
            None,
            "it is for jobs web/*, !web/deploy, not for web/deploy",
        ),
        (Rules(jobs=("db/*",)), None, "it is for jobs db/*, not for web/deploy"),
        (Rules(branches=("main",)), None, "it is for branches main, and nothing was checked out"),
        (Rules(branches=("main",)), Source("u", "c", branch="main"), None),
        (Rules(branches=("release/*",)), Source("u", "c", branch="release/1.0"), None),
        (
            Rules(branches=("main",)),
            Source("u", "c", branch="try"),
            "it is for branches main, not for try",
        ),
        (
            Rules(branches=("main",)),
            Source("u", "c", branch="main", number=7, base="main"),
            "it is for branches main, and this is a pull request",
        ),
        (Rules(branches=("refs/tags/v*",)), Source("u", "c", ref="refs/tags/v1"), None),
        (
            Rules(branches=("main",)),
            Source("u", "0123456789abcdef"),
            "it is for branches main, not for 0123456789ab",
        ),
    ],
)
def test_rules_say_who_gets_a_secret(rules: Rules, source: Source | None, why: str | None) -> None:
    assert refusal(rules, replace(BUILD, source=source)) == why


def test_what_a_fork_set_off_gets_no_secret_at_any_distance() -> None:
    fork = replace(BUILD, id="f", trigger=Trigger(data={"fork": "true"}))
    said = "a pull request of a fork gets no secrets"
    assert refusal(Rules(), fork) == said
    assert refusal(Rules(), BUILD, [BUILD, fork]) == said
    assert refusal(Rules(), BUILD, [BUILD]) is None
    assert job_refusal(Rules(), "x") is source_refusal(Rules(), None) is None


# -- values ---------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
RULES = st.builds(
    Rules,
    jobs=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    branches=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)


@given(NAMES, RULES, st.binary(max_size=1000), NAMES, RULES)
def test_a_value_is_bound_to_its_name_and_its_rules(
    name: str, rules: Rules, value: bytes, other: str, others: Rules
) -> None:
    bound = bind(name, rules, value)
    assert len(bound) % PAD == 0
    assert unbind(name, rules, bound) == (value, None)
    if other != name:
        assert unbind(other, rules, bound) == (b"", f"has the value of another one, {name}")
    if others != rules:
        assert unbind(name, others, bound) == (b"", "has other rules than it was set with")


@given(st.binary(max_size=300))
def test_what_rota_did_not_encrypt_is_no_value(data: bytes) -> None:
    assert unbind("A", Rules(), data) == (b"", "was not encrypted by rota")


def test_values_too_short_to_be_hidden_or_too_long_are_refused_and_not_repeated() -> None:
    assert value_fault(b"abcd") is None
    assert value_fault(b"x" * MAX_VALUE) is None
    short = value_fault(b" ab \n")
    assert short is not None
    assert short[0] == "the value has less than 4 bytes: it could not be hidden in logs"
    long = value_fault(b"x" * (MAX_VALUE + 1))
    assert long is not None
    assert long[0] == "the value has 49153 bytes, the limit is 49152"


# -- files ----------------------------------------------------------------------------------------


@given(RULES, st.text(max_size=30), st.text(max_size=10))
def test_a_secrets_file_reads_back(rules: Rules, description: str, by: str) -> None:
    def is_good(text: str) -> bool:
        return "\0" not in text and not any("\ud800" <= ch <= "\udfff" for ch in text)

    texts = (*rules.jobs, *rules.branches, description, by)
    globs = (*rules.jobs, *rules.branches)
    if not all(map(is_good, texts)) or not all(
        it.removeprefix("!").strip() and it.isprintable() for it in globs
    ):
        return
    file = SecretFile(
        value="-----X-----\nabc\n-----Y-----\n", rules=rules, description=description, by=by, at=AT
    )
    read, problems = parse_secret(encode_secret(file).decode(), "secrets/A.toml")
    assert (read, problems) == (file, ())


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("secrets/A.toml", "by = 'x'", "secrets/A.toml: value is missing (rota secret set A)"),
        (
            "secrets/a b.toml",
            "value = 'x'",
            "secrets/a b.toml: no secret's name (secrets/NAME.toml, made by: rota secret set NAME)",
        ),
        (
            "secrets/A",
            "value = 'x'",
            "secrets/A: no secret's name (secrets/NAME.toml, made by: rota secret set NAME)",
        ),
        (
            "secrets/A.toml",
            "value = 'x'\njob = ['x']",
            "secrets/A.toml:2:1: unknown key job (did you mean 'jobs'?)",
        ),
        (
            "secrets/A.toml",
            "value = 'x'\njobs = ['']",
            "secrets/A.toml:2:8: jobs has '', which is no pattern (such as jobs = [\"web/*\"])",
        ),
    ],
)
def test_a_fault_in_a_secrets_file_is_told(path: str, text: str, fault: str) -> None:
    read, problems = parse_secret(text, path)
    assert read is None
    assert [str(it) for it in problems] == [fault]


def test_the_public_key_stands_as_age_reads_it() -> None:
    text = encode_recipient(KEY, "ann\nage1evil", AT).decode()
    assert parse_recipient(text, "r") == (KEY, ())
    assert text.splitlines()[1:] == [KEY]
    for bad in ("", "age1", f"{KEY}\n{KEY}\n", "ssh-ed25519 AAAA"):
        found, problems = parse_recipient(bad, "secrets/recipients.txt")
        assert not found
        assert str(problems[0]) == (
            "secrets/recipients.txt: must hold one public key, age1…"
            " (the agents write it: take the last commit's, or rota secret rotate)"
        )


# -- what a commit is checked for -----------------------------------------------------------------

A = encode_secret(SecretFile(value="x", rules=Rules(jobs=("web/*",))))


def checked(changes: dict[str, bytes | None], secrets: dict[str, bytes], **more: Any) -> list[str]:
    return [str(it) for it in check_changes(changes, secrets=secrets, **more)]


def test_a_job_that_asks_for_what_is_not_there_or_not_for_it_is_refused() -> None:
    job = script('secrets = ["A"]').encode()
    assert checked({"jobs/web/a": job}, {"secrets/A.toml": A}) == []
    assert checked({"jobs/web/a": job}, {}) == [
        "jobs/web/a:4:14: no secret is called 'A' (rota secret set A)"
    ]
    assert checked({"jobs/db/a": job}, {"secrets/A.toml": A}) == [
        (
            "jobs/db/a:4:14: the secret A is not given to this job: it is for jobs web/*, not for db/a"
            " (rota secret set A --jobs …; or leave it out)"
        )
    ]
    optional = script('secrets = [{ name = "A", optional = true }]').encode()
    assert checked({"jobs/web/a": optional}, {}) == []
    provided = script('secrets = [{ name = "vault:A", env = "A" }]').encode()
    assert checked({"jobs/web/a": provided}, {}) == []


def test_a_secret_that_goes_is_told_with_the_jobs_that_need_it() -> None:
    job = script('secrets = ["A"]').encode()
    found = checked({}, {}, paths=["jobs/web/a"], others={"jobs/web/a": job})
    assert found == ["jobs/web/a:4:14: no secret is called 'A' (rota secret set A)"]


def test_definitions_hold_secrets_and_the_key_they_are_for() -> None:
    files = {
        "secrets/A.toml": A,
        "secrets/recipients.txt": encode_recipient(KEY, "ann", AT),
        "jobs/web/a": script('secrets = ["A"]').encode(),
    }
    found, problems = check_tree(files)
    assert problems == ()
    assert found.recipient == KEY
    assert found.secrets == {"A": SecretFile(value="x\n", rules=Rules(jobs=("web/*",)))}
    assert msgspec.json.decode(msgspec.json.encode(found.jobs["web/a"]))["job"]["spec"]["secrets"]


# -- providers ------------------------------------------------------------------------------------


def test_settings_name_providers() -> None:
    text = '[secrets.provider.vault]\ncommand = ["/bin/x", "{path}"]\ntimeout = "5s"\nbranches = ["main"]\n'
    found, problems = parse_settings(text)
    assert problems == ()
    provider = found.secrets.provider["vault"]
    assert (provider.command, provider.timeout_s, provider.branches) == (
        ("/bin/x", "{path}"),
        5.0,
        ("main",),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[secrets.provider.vault]\ncommand = ['vault']",
            (
                "settings.toml:2:11: secrets.provider.vault.command must begin with a program's whole path,"
                ' not \'vault\' (such as command = ["/usr/local/bin/vault-read", "{path}"])'
            ),
        ),
        (
            "[secrets.provider.vault]\n",
            (
                "settings.toml:1:1: secrets.provider.vault needs command (such as command ="
                ' ["/usr/local/bin/vault-read", "{path}"])'
            ),
        ),
        (
            "[secrets.provider.Vault]\ncommand = ['/bin/x']",
            "settings.toml:1:19: secrets.provider.Vault is no name: small letters, digits, - and _",
        ),
    ],
)
def test_a_fault_in_a_provider_is_told(text: str, fault: str) -> None:
    assert [str(it) for it in parse_settings(text)[1]] == [fault]


# -- what of a value is hidden --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed", "shown"),
    [
        (b"postgres://bob:s3cretpw@db.example/x", b"pw: s3cretpw.", b"pw: ********."),
        (b'A=1\nexport DB_PASSWORD="foo-1-bar"\n', b"it is foo-1-bar", b"it is *********"),
        (b"host: db\ntoken: abc.def.ghi\n", b"with abc.def.ghi", b"with ***********"),
        (b"//npm.example/:_authToken=npm_Zx81\nx=y\n", b"npm_Zx81 y", b"******** y"),
        (
            b'{"a": {"private_key": "-----BEGIN X-----\\nMIIEabc123\\n"}}',
            b"MIIEabc123\n",
            b"**********\n",
        ),
        (b'{"password": "hunter-22"}', b"hunter-22", b"*********"),
        # What only goes with a secret is shown.
        (
            b'{"type": "service_account", "token_uri": "https://x.example/t"}',
            b"service_account https://x.example/t",
            b"service_account https://x.example/t",
        ),
        (
            b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
            b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7",
            b"-----BEGIN RSA PRIVATE KEY-----\n*****************",
        ),
    ],
)
def test_parts_of_a_value_that_are_secret_on_their_own_are_hidden(
    value: bytes, printed: bytes, shown: bytes
) -> None:
    masks = Masks()
    masks.add(value)
    assert masks.apply(printed) == shown


def test_dumps_of_a_value_show_nothing_of_it() -> None:
    value = b"sup3r-S3cret/va1ue+x'y\"z!!and-m0re-of-it"
    masks = Masks()
    masks.add(value)
    for command in ("xxd", "hexdump -C", "od -c", "od -x", "od -b", "od -An -tx1", "xxd -p"):
        if shutil.which(command.split()[0]) is None:
            continue
        for before in (b"", b"abc", b"fourteen bytes"):
            done = subprocess.run(
                command.split(), input=before + value, capture_output=True, check=True
            )
            shown = masks.apply(done.stdout)
            assert len(shown) == len(done.stdout)
            dumped = [line for line in shown.split(b"\n") if line.strip()]
            body = (
                b" ".join(line.partition(b" ")[2] for line in dumped)
                if command != "xxd -p"
                else shown
            )
            left = len(body.replace(b"*", b"").split())
            assert left <= 2 * len(before) + 6, (command, shown.decode())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"https://example.com/hook/abcdefKEY123", b"GET https://example.com/other 200\n"),
        (b"0000000000000000a1", b"0"),
        (b"aabaabcabaabaab", b"%61%61%62"),
        (b"s3cret-token-value-that-is-long", b"s3cret-token "),
    ],
)
def test_a_text_full_of_beginnings_is_shown_and_the_value_in_it_is_not(
    value: bytes, text: bytes
) -> None:
    masks = Masks()
    masks.add(value)
    much = text * 2000
    for _ in range(2):  # what stands everywhere is searched for otherwise, from then on
        shown = masks.apply(much + b"|" + value + b"|" + much)
        assert shown == much + b"|" + b"*" * len(value) + b"|" + much
    assert masks.open_tail(much + b"|" + value[:-1]) == len(value) - 1
    coded = value.hex().encode()
    assert masks.apply(much + b"|" + coded + b"|") == much + b"|" + b"*" * len(coded) + b"|"
