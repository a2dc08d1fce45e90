"""Job headers: each key, each fault, and where it is."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from rota.core import header
from rota.core.header import MAX_SCRIPT_BYTES, decode_script, parse_header
from rota.core.job import Job, Keep, Param, Reason, Retry, Spec

FROM_THE_DESIGN = dedent("""\
    #!/usr/bin/env bash
    # /// script
    # [tool.rota]
    # description = "unit tests of the web shop"
    # labels = "linux && !arm && docker"
    # timeout = "20m"
    # retry = { times = 2, on = ["lost", "timeout"] }
    #
    # [tool.rota.params]
    # suite = { default = "fast", choices = ["fast", "full"] }
    # ///
    make test SUITE="$suite"
    """)


def script(*toml: str, sign: str = "#") -> str:
    """A script with these lines in its ``[tool.rota]``; the first of them is line 4."""
    lines = [f"{sign} {line}".rstrip() for line in ("[tool.rota]", *toml)]
    return "\n".join(["#!/bin/sh", f"{sign} /// script", *lines, f"{sign} ///", "true", ""])


def good(text: str) -> Job:
    job, problems = parse_header(text, name="web/test", path="jobs/web/test")
    assert [str(problem) for problem in problems] == []
    assert job is not None
    return job


def faults(text: str) -> list[str]:
    job, problems = parse_header(text, name="web/test", path="j")
    assert (job is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_the_example_of_the_design_is_read() -> None:
    assert good(FROM_THE_DESIGN) == Job(
        name="web/test",
        description="unit tests of the web shop",
        params={"suite": Param(default="fast", choices=("fast", "full"))},
        spec=Spec(
            labels="linux && !arm && docker",
            timeout_s=1200.0,
            retry=Retry(times=2, on=(Reason.LOST, Reason.TIMEOUT)),
        ),
    )


@pytest.mark.parametrize("text", ["", "echo hello\n", "#!/bin/sh\n# /// pyproject\n# ///\n", "\0"])
def test_a_script_without_a_header_is_a_job_of_defaults(text: str) -> None:
    assert good(text) == Job(name="web/test")


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ('labels = "a&&( b )"', Spec(labels="a && b")),
        ('labels = ""', Spec()),
        ('timeout = "1h30m"', Spec(timeout_s=5400.0)),
        ('idle_timeout = "500ms"', Spec(idle_timeout_s=0.5)),
        ('grace = "30d"', Spec(grace_s=30 * 86400.0)),
        ("retry = { times = 0 }", Spec(retry=Retry())),
        ('retry = { times = 3, delay = "1m" }', Spec(retry=Retry(times=3, delay_s=60.0))),
        ("retry.times = 20", Spec(retry=Retry(times=20))),
        ("priority = -100", Spec(priority=-100)),
        ("exclusive = true", Spec(exclusive=True)),
        (
            "keep = { logs = '30d', artifacts = '7d', builds = 50, bytes = '1G' }",
            Spec(keep=Keep(logs_s=30 * 86400.0, artifacts_s=7 * 86400.0, builds=50, bytes=1 << 30)),
        ),
        ("keep.builds = 1", Spec(keep=Keep(builds=1))),
        ('env = { A_1 = "x", PATH = "/bin" }', Spec(env={"A_1": "x", "PATH": "/bin"})),
        ("stdin = true", Spec(stdin=True)),
        ('artifacts = ["dist/*.whl", "**/a..b"]', Spec(artifacts=("dist/*.whl", "**/a..b"))),
    ],
)
def test_each_key_is_read(line: str, spec: Spec) -> None:
    assert good(script(line)).spec == spec


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ('p = "fast"', Param(default="fast")),
        ("p = 4", Param(type="int", default=4)),
        ("p = 1.5", Param(type="float", default=1.5)),
        ("p = false", Param(type="bool", default=False)),
        ("p = {}", Param()),
        ('p = { type = "int" }', Param(type="int")),
        ("p = { choices = [1, 2] }", Param(type="int", choices=(1, 2))),
        ("p = { choices = [1, 2.5] }", Param(type="float", choices=(1.0, 2.5))),
        ('p = { type = "float", default = 1 }', Param(type="float", default=1.0)),
        ('p = { description = "which" }', Param(description="which")),
    ],
)
def test_a_parameter_is_read_and_its_type_inferred(line: str, param: Param) -> None:
    found = good(script("[tool.rota.params]", line)).params["p"]
    assert found == param
    assert type(found.default) is type(param.default)


@pytest.mark.parametrize("sign", ["#", "//", "--", ";"])
def test_the_comment_sign_is_that_of_the_language(sign: str) -> None:
    assert good(script('timeout = "20m"', "", "stdin = true", sign=sign)).spec.stdin
    assert faults(script("stdin = 1", sign=sign))[0].startswith(f"j:4:{len(sign) + 10}: ")


def test_windows_line_ends_work_inside_a_header() -> None:
    text = script('timeout = "20m"', "artifacts = [", '  "a",', "]").replace("\n", "\r\n")
    assert good(text.removeprefix("#!/bin/sh\r\n")).spec.artifacts == ("a",)


def test_other_tables_of_the_block_are_left_alone() -> None:
    text = "# /// script\n# requires-python = '>=3.11'\n# dependencies = ['x']\n"
    text += "# [tool.uv]\n# anything = 1\n# [tool.rota]\n# stdin = true\n# ///\n"
    assert good(text).spec.stdin
    assert good(text.replace("# [tool.rota]\n# stdin = true\n", "")) == Job(name="web/test")


def test_a_description_of_several_lines_is_what_the_comment_says() -> None:
    assert good(script('description = """', "one", '  two"""')).description == "one\n  two"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("timeouts = '1m'", "j:4:3: unknown key timeouts (did you mean 'timeout'?)"),
        (
            "zzz = 1",
            (
                "j:4:3: unknown key zzz (known: description, labels, timeout, idle_timeout, grace, "
                "retry, priority, params, env, stdin, artifacts, keep, exclusive, scm, on, concurrency, "
                "concurrency_key, limits, rate, needs, matrix, supersede, supersede_key, "
                "approve, finally, caches, resources, user, network, isolation, image, services, "
                "workspace, tests, coverage, secrets, notify)"
            ),
        ),
        ('"a b" = 1', "j:4:3: unknown key 'a b' (known: "),
        (
            "description = 1",
            (
                "j:4:17: description must be a string, not an integer "
                '(such as description = "unit tests")'
            ),
        ),
        (
            'description = "\\u0000"',
            ("j:4:17: description has a NUL character (no program could be given it)"),
        ),
        (
            "labels = ['a']",
            ('j:4:12: labels must be a string, not an array (such as labels = "linux && docker")'),
        ),
        ('labels = "a & b"', "j:4:15: labels: '&' is no operator (write &&)"),
        ('labels = "\\u0061 and b"', "j:4:20: labels: 'and' is no operator (write &&)"),
        (
            "timeout = 20",
            ('j:4:13: timeout must be a string, not an integer (such as timeout = "20m")'),
        ),
        (
            'timeout = "20"',
            (
                "j:4:13: timeout cannot be read: '20' has no unit, write 20s or 20m "
                '(such as timeout = "20m")'
            ),
        ),
        ('timeout = "soon"', "j:4:13: timeout cannot be read: 'soon' is not a duration, "),
        (
            'timeout = "0s"',
            ("j:4:13: timeout must be at least 1ms, not '0s' (such as timeout = \"20m\")"),
        ),
        ('grace = "31d"', "j:4:11: grace must be at most 30d, not '31d' (such as grace = \"10s\")"),
        (
            "idle_timeout = true",
            ('j:4:18: idle_timeout must be a string, not a boolean (such as idle_timeout = "5m")'),
        ),
        (
            "retry = 2",
            (
                "j:4:11: retry must be a table, not an integer "
                '(such as retry = { times = 2, on = ["lost"] })'
            ),
        ),
        ("retry = {}", "j:4:11: retry needs times (such as times = 2)"),
        (
            "retry = { times = 21 }",
            ("j:4:21: retry.times must be between 0 and 20, not 21 (such as times = 2)"),
        ),
        (
            "retry = { times = 2.0 }",
            ("j:4:21: retry.times must be an integer, not a float (such as times = 2)"),
        ),
        (
            'retry = { times = 1, on = ["lots"] }',
            ("j:4:30: retry.on[1] cannot be 'lots' (did you mean 'lost'?)"),
        ),
        (
            'retry = { times = 1, on = ["cancelled"] }',
            (
                "j:4:30: retry.on[1] cannot be 'cancelled' "
                "(known: script, signal, oom-killed, timeout, no-output, too-much-output, lost, checkout, "
                "agent-error, "
                "reports, finally)"
            ),
        ),
        (
            "retry = { times = 1, on = 'lost' }",
            ('j:4:29: retry.on must be an array, not a string (such as on = ["lost", "timeout"])'),
        ),
        (
            "retry = { times = 1, dlay = '1s' }",
            ("j:4:24: unknown key retry.dlay (did you mean 'delay'?)"),
        ),
        (
            "exclusive = 1",
            ("j:4:15: exclusive must be a boolean, not an integer (such as exclusive = true)"),
        ),
        (
            "keep = {}",
            (
                "j:4:10: keep is empty, so that it says nothing "
                '(such as keep = { logs = "30d", builds = 50 })'
            ),
        ),
        (
            "keep = { log = '30d' }",
            ("j:4:12: unknown key keep.log (did you mean 'logs'?)"),
        ),
        (
            "keep = { builds = 0 }",
            ("j:4:21: keep.builds must be between 1 and 1000000, not 0 (such as builds = 50)"),
        ),
        (
            "keep = { logs = '30' }",
            (
                "j:4:19: keep.logs cannot be read: '30' has no unit, write 30s or 30m "
                '(such as logs = "30d")'
            ),
        ),
        (
            "keep = { bytes = '1K' }",
            (
                "j:4:20: keep.bytes must be between 1048576 and 1152921504606846976 bytes, not 1024 "
                '(such as bytes = "1G")'
            ),
        ),
        (
            "priority = 101",
            ("j:4:14: priority must be between -100 and 100, not 101 (such as priority = 10)"),
        ),
        (
            "priority = " + "9" * 300,
            (
                "j:4:14: priority must be between -100 and 100, "
                "not a number of more than 20 digits (such as priority = 10)"
            ),
        ),
        (
            "priority = true",
            ("j:4:14: priority must be an integer, not a boolean (such as priority = 10)"),
        ),
        (
            "priority = 1979-05-27",
            ("j:4:14: priority must be an integer, not a date or time (such as priority = 10)"),
        ),
        (
            'env = ["A=1"]',
            'j:4:9: env must be a table, not an array (such as env = { LANG = "C" })',
        ),
        (
            'env = { "1A" = "" }',
            ("j:4:11: env.1A is no name of a variable: letters, digits and _, no digit first"),
        ),
        (
            'env = { ROTA_X = "" }',
            "j:4:11: env.ROTA_X is reserved: names in ROTA_ are set by the agent",
        ),
        ("env = { A = 1 }", 'j:4:15: env.A must be a string, not an integer (write "1")'),
        (
            'env = { A = "\\u0000" }',
            "j:4:15: env.A has a NUL character (no program could be given it)",
        ),
        ('stdin = "yes"', "j:4:11: stdin must be a boolean, not a string (such as stdin = true)"),
        (
            'artifacts = "dist"',
            (
                "j:4:15: artifacts must be an array, not a string "
                '(such as artifacts = ["dist/*.whl"])'
            ),
        ),
        (
            'artifacts = ["/etc/x"]',
            (
                "j:4:16: artifacts[1] must be relative, not '/etc/x' "
                "(paths are relative to the workspace, such as dist/*.whl)"
            ),
        ),
        (
            'artifacts = ["a", "b/../../x"]',
            (
                "j:4:21: artifacts[2] leaves the workspace: 'b/../../x' "
                "(paths are relative to the workspace, such as dist/*.whl)"
            ),
        ),
        (
            'artifacts = [""]',
            (
                "j:4:16: artifacts[1] is empty "
                "(paths are relative to the workspace, such as dist/*.whl)"
            ),
        ),
        ("artifacts = [1]", "j:4:16: artifacts[1] must be a string, not an integer"),
        (
            "params = 1",
            (
                "j:4:12: params must be a table, not an integer "
                '(such as params = { suite = "fast" })'
            ),
        ),
        (
            "params.p = ['a']",
            'j:4:14: params.p cannot be an array (write { choices = ["a", "b"] })',
        ),
        (
            "params.p = 07:32:00",
            ("j:4:14: params.p cannot be a date or time (a string, a number or a boolean)"),
        ),
        ("params.p = nan", "j:4:14: params.p is not a finite number of 64 bits"),
        ("params.p = 9223372036854775808", "j:4:14: params.p is not a finite number of 64 bits"),
        ("params.1p = ''", "j:4:10: params.1p is no name of a variable: "),
        ("params.ROTA_P = ''", "j:4:10: params.ROTA_P is reserved: names in ROTA_ "),
        ("params.p.typ = 'int'", "j:4:12: unknown key params.p.typ (did you mean 'type'?)"),
        (
            "params.p.type = 'integer'",
            ("j:4:19: params.p.type cannot be 'integer' (did you mean 'int'?)"),
        ),
        (
            "params.p.type = 'number'",
            ("j:4:19: params.p.type cannot be 'number' (known: string, int, float, bool)"),
        ),
        (
            "params.p = { type = 'string', default = 1 }",
            ('j:4:43: params.p.default must be of type string, not an integer (write "1")'),
        ),
        (
            "params.p = { type = 'int', default = 1.5 }",
            ("j:4:40: params.p.default must be of type int, not a float"),
        ),
        (
            "params.p = { default = 'a', choices = ['a', 2] }",
            ('j:4:47: params.p.choices[2] must be of type string, not an integer (write "2")'),
        ),
        (
            "params.p = { default = 'fsat', choices = ['fast', 'full'] }",
            (
                "j:4:26: params.p.default "
                "cannot be 'fsat', only 'fast', 'full'; did you mean 'fast'?"
            ),
        ),
        (
            "params.p.choices = []",
            (
                "j:4:22: params.p.choices is empty, so that no value would fit "
                '(such as choices = ["fast", "full"])'
            ),
        ),
        ("params.p.choices = ['a', 'a']", "j:4:28: params.p.choices[2] is given twice: 'a'"),
        (
            "params.p = '" + "x" * 40_000 + "é" * 20_000 + "'",
            ("j:4:14: params.p is 80000 bytes, the limit is 65536"),
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_a_hint(line: str, fault: str) -> None:
    found = faults(script(line))
    assert len(found) == 1
    assert found[0].startswith(fault) if fault[-1] == " " else found == [fault]


def test_a_key_of_another_version_is_refused_and_not_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rota.core.header.UNSUPPORTED", ("later",))
    assert faults(script("later = []")) == [
        "j:4:3: later is not supported by this version (remove it for now)"
    ]


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "CI", "IFS", "LD_PRELOAD", "LD_X", "BASH_ENV", "PYTHONPATH", "NODE_OPTIONS"],
)
def test_a_parameter_cannot_take_the_name_of_a_variable_that_programs_go_by(name: str) -> None:
    assert faults(script(f"params.{name} = ''")) == [
        (
            f"j:4:10: params.{name} is reserved: shells, the loader or other programs go by the "
            "variable of that name"
        )
    ]


def test_a_name_is_a_parameter_or_a_variable_but_not_both() -> None:
    assert faults(script("params.suite = ''", "env.suite = ''")) == [
        "j:5:7: env.suite is a parameter as well (keep one of them)"
    ]


def test_five_different_mistakes_are_five_problems() -> None:
    text = script(
        'descripton = "x"',
        "timeout = 20m",
        'labels = "linux or arm"',
        "priority = 1000",
        "",
        "[tool.rota.params]",
        'suite = { default = "fsat", choices = ["fast", "full"] }',
    )
    assert [problem.split(": ")[0] for problem in faults(text)] == [
        "j:4:3",
        "j:5:15",
        "j:6:19",
        "j:7:14",
        "j:10:23",
    ]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            ["timeout = 20m"],
            (
                "j:4:15: not TOML: expected newline or end of document after a statement "
                '(text stands in quotes: "20m")'
            ),
        ),
        (["stdin = True"], "j:4:11: not TOML: invalid value (write true or false)"),
        (["stdin = yes # x"], "j:4:11: not TOML: invalid value (write true or false)"),
        (["timeout: '20m'"], "j:4:10: not TOML: expected '=' after a key in a key/value pair"),
        (["description = 'abc"], "j:4:21: not TOML: a string does not end in its line"),
        (["description = '\0'"], "j:4:18: not TOML: "),
        (["artifacts = ['a',"], "j:4:3: not TOML: a bracket or a string is not closed"),
        (["artifacts = [", " 'a' 'b',", " 'c'", "]"], "j:5:8: not TOML: unclosed array"),
        (["retry = { times = 2"], "j:4:3: not TOML: a bracket or a string is not closed"),
        (["retry = { times = 2,", " on = []", "}"], "j:4:23: not TOML: "),
        (["description = '''abc"], "j:4:3: not TOML: a bracket or a string is not closed"),
        (["stdin = true", "stdin = true"], "j:5:3: given twice: stdin"),
        (["env = { A = '1', A = '2' }"], "j:4:"),
        (["priority = " + "9" * 5000], "j:4:3: a number of 5000 characters"),
        (["env = " + "[" * 5000], "j:4:3: nested deeper than 32"),
        ([".".join("a" * 5000) + " = 1"], "j:4:3: nested deeper than 32"),
    ],
)
def test_a_fault_of_syntax_does_not_hide_the_rest(lines: list[str], fault: str) -> None:
    found = faults(script(*lines, "priority = 'x'", "[tool.uv]", "[tool.rota.env]", "1 = ''"))
    assert found[0].startswith(fault)
    numbers = [int(problem.split(":")[1]) for problem in found]
    assert numbers[1:] == [4 + len(lines), 7 + len(lines)]


def test_the_keys_of_a_broken_table_head_are_not_taken_for_others() -> None:
    text = script("stdin = true", "[tool.rota.params", "suite = 'fast'", "[tool.rota.env]", "1=''")
    assert [problem.split(": ")[0] for problem in faults(text)] == ["j:5:20", "j:8:3"]


def test_a_table_given_twice_is_left_out_with_its_keys() -> None:
    text = script("params = {}", "[tool.rota.params]", "1 = ''", "[tool.rota.env]", "1 = ''")
    assert [problem[:38] for problem in faults(text)] == [
        "j:5:3: given twice: [tool.rota.params]",
        "j:8:3: env.1 is no name of a variable:",
    ]


def test_not_more_than_twenty_faults_of_syntax_are_looked_for() -> None:
    assert len(faults(script(*["a b"] * 100))) == 20


def test_a_header_that_never_ends_is_a_problem() -> None:
    text = "#!/bin/sh\n# /// script\n# [tool.rota]\n# stdin = 3\n# just a comment\ntrue\n"
    assert faults(text) == [
        "j:2:1: the header is not closed (end it with a line # ///)",
        "j:4:11: stdin must be a boolean, not an integer (such as stdin = true)",
    ]
    assert faults("# /// script") == ["j:1:1: the header is not closed (end it with a line # ///)"]


def test_the_comment_sign_must_stay_the_same() -> None:
    assert faults("# /// script\n# [tool.rota]\n// ///\n") == [
        "j:1:1: the header is not closed (end it with a line # ///)"
    ]


def test_a_second_header_is_a_problem() -> None:
    assert faults(script("stdin = true") + script()) == [
        "j:8:1: a second header (the first is in line 2)"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "#/// script\n# ///",
            ("j:1:1: this is nearly a header (write # /// script at the start of the line)"),
        ),
        (
            "#!/bin/sh\n\n## /// Script\n",
            ("j:3:1: this is nearly a header (write # /// script at the start of the line)"),
        ),
        (
            "  -- /// script\n",
            ("j:1:1: this is nearly a header (write -- /// script at the start of the line)"),
        ),
        (
            "#!/bin/sh\n# [tool.rota]\n# stdin = true\n",
            (
                "j:2:1: [tool.rota] outside of a header "
                "(put a line # /// script before it, and # /// after its last)"
            ),
        ),
        ("# /// script\n#///\n", "j:2:1: a bad end of the header (write # ///)"),
        ("# /// script\n# ////\n", "j:2:1: a bad end of the header (write # ///)"),
        (
            "# /// script\n#[tool.rota]\n# ///\n",
            ("j:2:2: a space is missing after # (other readers of the block demand it)"),
        ),
        (
            "# /// script\n# [tool.rota]\n\n# stdin = true\n# ///\n",
            ("j:3:1: an empty line in the header (write a bare #)"),
        ),
        (
            "\ufeff#!/bin/sh\n",
            (
                "j:1:1: the file starts with a byte order mark, so that the kernel sees "
                "no #! (save it as UTF-8 without a byte order mark)"
            ),
        ),
        (
            "#!/bin/sh\r\ntrue\r\n",
            (
                "j:1:10: the line ends in a carriage return, which the kernel takes "
                "for part of the name (save the file with Unix line ends)"
            ),
        ),
    ],
)
def test_what_is_nearly_right_is_not_passed_over(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_what_looks_like_a_header_inside_the_script_is_none() -> None:
    assert good("#!/bin/sh\ncat <<E\n  # /// script\n# [tool.rota]\nE\n") == Job(name="web/test")


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (
            "timeout = '1m'",
            "j:2:3: timeout stands outside of [tool.rota] (put [tool.rota] before it)",
        ),
        ("[rota]", "j:2:4: rota stands outside of [tool.rota] (put [tool.rota] before it)"),
        ("[tool.rotta]", "j:2:9: unknown table [tool.rotta] (did you mean 'rota'?)"),
        ("tool = 1", "j:2:10: tool must be a table (write [tool.rota])"),
        ("tool.rota = 1", "j:2:15: tool.rota must be a table (write [tool.rota])"),
    ],
)
def test_settings_outside_of_their_table_are_told(toml: str, fault: str) -> None:
    assert faults(f"# /// script\n# {toml}\n# ///\n") == [fault]


def test_a_header_that_is_not_utf8_is_a_problem_and_a_script_is_not() -> None:
    text = decode_script(script('description = "x?"').encode().replace(b"?", b"\xe9") + b"\xff\n")
    assert faults(text) == ["j:4:19: byte 0xe9 is not UTF-8 (save the file as UTF-8)"]
    assert good(decode_script(b"#!/bin/sh\necho \xe9\n\x00\x01")) == Job(name="web/test")


def test_a_definition_has_a_size_limit() -> None:
    assert good("é" * (MAX_SCRIPT_BYTES // 2)) == Job(name="web/test")
    assert faults("é" * (MAX_SCRIPT_BYTES // 2) + "x") == ["j: 1048577 bytes, the limit is 1048576"]


def test_a_header_has_a_size_limit() -> None:
    assert faults(script(*["# " + "x" * 100] * 700)) == [
        "j:2:1: the header has more than 65536 characters"
    ]


def test_problems_are_sorted_by_place() -> None:
    found = faults("#!/bin/sh\r\n# /// script\n# [tool.rota]\n# b = 1\n# a b\n# c = 1\n# ///\n")
    assert [problem.split(": ")[0] for problem in found] == ["j:1:10", "j:4:3", "j:5:5", "j:6:3"]


def test_what_a_header_says_is_carried_out_by_somebody() -> None:
    source = Path(header.__file__).parent.parent
    readers = [
        path for path in source.rglob("*.py") if not path.name.startswith(("header", "job.py"))
    ]
    text = "\n".join(path.read_text() for path in readers)
    idle = {it for it in Spec.__struct_fields__ if not re.search(rf"\.{it}\b", text)}
    assert idle == set(), f"nothing goes by these fields of Spec: {idle}"
