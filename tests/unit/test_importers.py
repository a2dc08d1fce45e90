"""Crontabs, Jenkins' projects and GitHub's workflows become jobs; what cannot be said is listed."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.cli.main import main
from rota.core.header import parse_header
from rota.core.job import Job
from rota.core.triggers import Schedule
from rota.errors import InputError
from rota.importers.crontab import read_crontab
from rota.importers.draft import Draft, checked, job_name, remark_text
from rota.importers.github import read_workflow
from rota.importers.jenkins import read_jenkins


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, that lies in no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


CRONTAB = r"""
SHELL=/bin/bash
MAILTO="ops@example.org, ann@example.org"
CRON_TZ=Europe/Berlin
GREETING='hello there'
*/5 * * * * /usr/local/bin/poll-things --quiet >/dev/null 2>&1
0 2 * * 1-5 cd /srv/app && cat - "x" % first%second 100\%
@Daily /usr/bin/env python3 /opt/clean-up.py
@reboot /usr/bin/start-me
61 * * * * /bin/broken
not understood
"""

WORKFLOW = """
name: CI
on:
  push: {branches: [main, 'release/**'], paths-ignore: ['docs/**'], tags: ['v*']}
  pull_request:
  schedule: [{cron: '30 5 * * 1,3'}, {cron: '0 25 * * *'}]
  workflow_dispatch:
    inputs:
      log-level: {description: level, type: choice, options: [info, debug], default: info}
      dry: {type: boolean, default: true}
      PATH: {}
  issues: {types: [opened]}
env: {FOO: bar, SHA: '${{ github.sha }}'}
concurrency: {group: x, cancel-in-progress: true}
jobs:
  test:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    strategy:
      fail-fast: false
      matrix:
        python: [3.10, "3.11"]
        exclude: [{python: 3.10}]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/cache@v4
        with:
          path: ~/.cache/pip
          key: ${{ runner.os }}-${{ hashFiles('**/req.txt') }}
          restore-keys: "${{ runner.os }}-"
      - {name: Say, run: 'echo "$FOO ${{ matrix.python }} ${{ secrets.NPM_TOKEN }}"', env: {FOO: x}}
      - {run: 'exit 1', continue-on-error: true}
      - {run: 'exit 1', if: failure()}
      - {shell: python, run: 'print(1)'}
      - {uses: actions/upload-artifact@v4, with: {path: dist/}}
  deploy:
    needs: [test]
    runs-on: [self-hosted, gpu]
    environment: production
    steps:
      - uses: some/deployer@v1
      - run: echo ${{ github.actor }}
"""


def job_of(draft: Draft) -> Job:
    """Return what rota makes of a draft: it takes it as it is."""
    job, problems = parse_header(draft.text(), name=draft.name, path=draft.name)
    assert problems == ()
    assert job is not None
    return job


def schedules(job: Job) -> list[Schedule]:
    return [rule for rule in job.on if isinstance(rule, Schedule)]


def left(draft: Draft) -> str:
    return "\n".join(map(remark_text, draft.remarks))


def crontab(text: str, *, has_user: bool = False) -> dict[str, Draft]:
    drafts, _ = read_crontab(text, "crontab", zone="UTC", has_user=has_user)
    return {draft.name: draft for draft in checked(drafts)}


def workflow(text: str) -> dict[str, Draft]:
    drafts = read_workflow(text, "ci.yml", repo="https://git.example/web.git", folder="ci")
    return {draft.name: draft for draft in checked(drafts)}


def project(body: str, name: str = "shop") -> Draft:
    data = f"<?xml version='1.1' encoding='UTF-8'?>\n<project>\n{body}\n</project>".encode()
    return checked([read_jenkins(data, name, "config.xml")])[0]


def test_each_line_of_a_crontab_is_a_job() -> None:
    drafts = crontab(CRONTAB)
    assert list(drafts) == [
        "cron/poll-things",
        "cron/cat",
        "cron/clean-up",
        "cron/start-me",
        "cron/broken",
    ]
    poll = job_of(drafts["cron/poll-things"])
    assert [(rule.cron, rule.tz) for rule in schedules(poll)] == [("*/5 * * * *", "Europe/Berlin")]
    assert poll.spec.env == {"GREETING": "hello there"}
    told = [target.text for it in poll.spec.notify.channels or () for target in it.to]
    assert told == ["mail:ops@example.org", "mail:ann@example.org"]
    assert drafts["cron/poll-things"].text().startswith("#!/bin/bash\n")
    assert [rule.cron for rule in schedules(job_of(drafts["cron/clean-up"]))] == ["@daily"]


def test_what_is_no_text_is_refused_and_nothing_of_it_is_printed(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "tab").write_bytes(b"\x7fELF\0\0* * * * * x\n")
    assert main(["import", "crontab", "tab"]) != 0
    out, err = capfd.readouterr()
    said = "error: tab is no text: it has a NUL character\n\nhint: is it the right file?\n"
    assert (out, err) == ("", said)


def test_what_follows_a_percent_sign_is_input(tmp_path: Path) -> None:
    script = crontab("0 0 * * * cat % first%second 100\\%")["cron/cat"].text()
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == " first\nsecond 100%\n"


def test_what_a_crontab_says_and_rota_does_not_is_listed() -> None:
    drafts = crontab(CRONTAB)
    assert "line 9: @reboot has no like" in left(drafts["cron/start-me"])
    assert "minute cannot be '61'" in left(drafts["cron/broken"])
    assert job_of(drafts["cron/broken"]).on == ()
    _, unread = read_crontab(CRONTAB, "crontab", zone="UTC", has_user=False)
    assert unread == [(11, "not understood")]


def test_lines_of_the_systems_crontab_name_a_user() -> None:
    drafts = crontab("17 * * * * www-data /bin/a\n17 * * * *\troot\t/bin/a", has_user=True)
    assert job_of(drafts["cron/a"]).spec.user == "www-data"
    assert job_of(drafts["cron/a-2"]).spec.user == ""
    assert "line 2: it ran as root, and runs as the agent's user here" in left(drafts["cron/a-2"])


def test_tabs_stand_in_the_systems_crontab() -> None:
    drafts = crontab("25 6\t* * *\troot\tcd / && run-parts /etc/cron.daily", has_user=True)
    assert drafts["cron/run-parts"].body[-1] == "cd / && run-parts /etc/cron.daily"
    assert [it.cron for it in schedules(job_of(drafts["cron/run-parts"]))] == ["25 6 * * *"]


@pytest.mark.parametrize(
    ("line", "has_user"),
    [("0 5 * * *", False), ("0 5 * * * ", False), ("0 5 * * * root", True), ("@daily", False)],
)
def test_a_line_that_runs_nothing_is_no_job(line: str, has_user: bool) -> None:
    found = read_crontab(line, "crontab", zone="UTC", has_user=has_user)
    assert found == ([], [(1, line.strip())])


def test_a_dash_before_a_line_is_about_the_systems_log() -> None:
    [job] = crontab("-*/15 * * * * poll").values()
    assert [it.cron for it in schedules(job_of(job))] == ["*/15 * * * *"]
    assert not job.remarks


def test_what_tells_cron_how_to_run_is_no_variable_of_the_job() -> None:
    [first, second] = crontab("0 1 * * * a\nRANDOM_DELAY=45\nFOO=1\n0 2 * * * b").values()
    assert not first.remarks
    assert job_of(second).spec.env == {"FOO": "1"}
    assert "RANDOM_DELAY=45 is not carried over (an H in place of a number" in left(second)


def test_a_time_that_only_another_cron_knows_is_named() -> None:
    [job] = crontab("@every_minute a").values()
    assert "line 1: @every_minute is no time that rota knows" in left(job)
    assert job_of(job).on == ()


def test_what_a_line_tests_before_is_not_what_it_is_called() -> None:
    lines = (
        "0 1 * * * root test -x /usr/sbin/anacron || { cd / && run-parts /etc/cron.daily; }",
        "0 1 * * * root if [ -x /usr/share/check ]; then /usr/share/check --all; fi",
    )
    assert list(crontab("\n".join(lines), has_user=True)) == ["cron/anacron", "cron/check"]


def test_a_last_percent_sign_adds_no_second_newline(tmp_path: Path) -> None:
    script = crontab("0 0 * * * cat %one%two%")["cron/cat"].text()
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"HOME": str(tmp_path)}, capture_output=True, check=True
    )
    assert done.stdout == b"one\ntwo\n"


def test_a_workflow_is_a_job_for_each_of_its_jobs() -> None:
    drafts = workflow(WORKFLOW)
    assert list(drafts) == ["ci/test", "ci/deploy"]
    test, deploy = job_of(drafts["ci/test"]), job_of(drafts["ci/deploy"])
    assert test.on == (), "what needs it asks for it"
    assert [rule.cron for rule in schedules(deploy)] == ["30 5 * * 1,3"]
    assert {type(rule).__name__ for rule in deploy.on} >= {"Push", "PullRequest"}
    assert test.params["log_level"].choices == ("info", "debug")
    assert test.params["dry"].default is True
    assert test.spec.timeout_s == 900
    assert test.spec.scm is not None
    assert test.spec.artifacts == ("dist/**",)
    assert test.spec.supersede == "running"
    assert [it.name for it in test.spec.secrets] == ["NPM_TOKEN"]
    assert [it.key for it in test.spec.caches] == ["{label:os}-{hash:**/req.txt}"]
    assert test.matrix is not None
    assert test.matrix.cells == ({"python": "3.11"},)
    assert [need.job for need in deploy.needs] == ["ci/test"]
    assert set(deploy.params) == set(test.params)
    assert set(deploy.needs[0].params) == {"log_level", "dry"}, "who asks hands the inputs on"
    assert deploy.spec.labels == "gpu"


DIAMOND = """
on: [push]
jobs:
  build: {runs-on: ubuntu-latest, steps: [{run: make}]}
  unit: {needs: build, runs-on: ubuntu-latest, steps: [{run: make unit}]}
  docs: {needs: [build], runs-on: ubuntu-latest, if: always(), steps: [{run: make docs}]}
  lint: {runs-on: ubuntu-latest, if: "${{ success() }}", steps: [{run: make lint}]}
  ship:
    needs: unit
    if: github.ref == 'refs/heads/main' && true
    runs-on: ubuntu-latest
    steps: [{run: make ship}]
"""


def test_a_push_sets_off_what_nobody_needs_and_that_asks_for_the_rest() -> None:
    drafts = workflow(DIAMOND)
    jobs = {name.removeprefix("ci/"): job_of(draft) for name, draft in drafts.items()}
    assert [name for name, job in jobs.items() if job.on] == ["docs", "lint", "ship"]
    assert "it runs once for each of ci/docs, ci/ship" in left(drafts["ci/build"])
    assert "it runs once" not in left(drafts["ci/unit"])
    assert set(jobs["docs"].needs[0].results) > {"passed", "failed"}, "always(): whatever came"
    assert "if" not in left(drafts["ci/docs"]).split()


def test_a_job_on_a_condition_does_not_run_without_one() -> None:
    drafts = workflow(DIAMOND)
    script = drafts["ci/ship"].text()
    assert "false  # TODO: it ran only if github.ref == 'refs/heads/main' && true\n" in script
    assert script.index("false  # TODO") < script.index("make ship")
    assert "`if` of the job: github.ref ==" in left(drafts["ci/ship"])
    assert "false" not in drafts["ci/lint"].text()


def test_what_a_project_says_in_passing_is_not_lost() -> None:
    draft = project("""
<properties/>
<scm class="hudson.plugins.git.GitSCM"><userRemoteConfigs><x><url>git@example.org:$group/shop.git</url></x></userRemoteConfigs>
 <branches><hudson.plugins.git.BranchSpec><name>$mbranch</name></hudson.plugins.git.BranchSpec></branches></scm>
<blockBuildWhenUpstreamBuilding>true</blockBuildWhenUpstreamBuilding>
<blockBuildWhenDownstreamBuilding>false</blockBuildWhenDownstreamBuilding>
<builders><hudson.tasks.Maven><targets>install</targets><mavenName>M3</mavenName><pom>sub/pom.xml</pom>
 <properties>a=b c
# none
d=e</properties><jvmOptions>-Xmx1g</jvmOptions></hudson.tasks.Maven></builders>
<publishers><hudson.tasks.ArtifactArchiver><artifacts>target/*.jar</artifacts><excludes>target/*-sources.jar</excludes></hudson.tasks.ArtifactArchiver></publishers>
""")
    said = left(draft)
    for text in (
        "the repository's URL has variables: git@example.org:$group/shop.git",
        "the branch is $mbranch, and there is no such parameter",
        "<blockBuildWhenUpstreamBuilding>: it waits while others build",
        "the Maven 'M3'",
        "options of Java: -Xmx1g",
        "artifacts without target/*-sources.jar",
    ):
        assert text in said
    assert "blockBuildWhenDownstream" not in said
    assert draft.body[-1] == "mvn -B -f sub/pom.xml install '-Da=b c' -Dd=e"
    scm = job_of(draft).spec.scm
    assert scm is not None
    assert scm.branch == ""


def test_what_a_workflow_says_and_rota_does_not_is_listed_and_stands_in_the_script() -> None:
    drafts = workflow(WORKFLOW)
    said = left(drafts["ci/test"])
    for text in (
        "'0 25 * * *' is not taken",
        "the input PATH is reserved",
        "the trigger issues has no like here",
        "a step on the condition failure()",
        "the values of NPM_TOKEN (rota secret set NAME)",
    ):
        assert text in said
    said, script = left(drafts["ci/deploy"]), drafts["ci/deploy"].text()
    assert "the action some/deployer@v1" in said
    assert "the expression ${{ github.actor }}" in said
    assert "`environment` of the job: production" in said
    assert "false  # TODO: what some/deployer@v1 does" in script
    assert "# Not carried over:\n#   line " in script


def test_the_script_of_a_workflow_runs(tmp_path: Path) -> None:
    script = workflow(WORKFLOW)["ci/test"].text()
    env = {"PATH": "/usr/bin:/bin", "python": "3.11", "NPM_TOKEN": "t", "ROTA_GIT_COMMIT": "c"}
    done = subprocess.run(
        ["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "x 3.11 t\n1\n"), done.stderr


PROJECT = """
<description>Builds the shop</description>
<logRotator><daysToKeep>30</daysToKeep><numToKeep>50</numToKeep></logRotator>
<properties><hudson.model.ParametersDefinitionProperty><parameterDefinitions>
 <hudson.model.StringParameterDefinition><name>BRANCH</name><defaultValue>main</defaultValue></hudson.model.StringParameterDefinition>
 <hudson.model.ChoiceParameterDefinition><name>suite</name><choices><a><string>fast</string><string>full</string></a></choices></hudson.model.ChoiceParameterDefinition>
 <hudson.model.PasswordParameterDefinition><name>PW</name></hudson.model.PasswordParameterDefinition>
</parameterDefinitions></hudson.model.ParametersDefinitionProperty></properties>
<triggers>
 <hudson.triggers.TimerTrigger><spec>TZ=Europe/Berlin
# nightly
H 2 * * 1-5
H 99 * * *</spec></hudson.triggers.TimerTrigger>
 <hudson.triggers.SCMTrigger><spec>H/5 * * * *</spec></hudson.triggers.SCMTrigger>
 <jenkins.triggers.ReverseBuildTrigger><upstreamProjects>lib, core</upstreamProjects></jenkins.triggers.ReverseBuildTrigger>
</triggers>
<scm class="hudson.plugins.git.GitSCM"><userRemoteConfigs><x><url>https://git.example/shop.git</url>
 <credentialsId>deploy</credentialsId></x></userRemoteConfigs>
 <branches><hudson.plugins.git.BranchSpec><name>*/main</name></hudson.plugins.git.BranchSpec></branches></scm>
<assignedNode>linux &amp;&amp; !arm</assignedNode>
<concurrentBuild>false</concurrentBuild>
<builders>
 <hudson.tasks.Shell><command>echo $BUILD_NUMBER $suite</command></hudson.tasks.Shell>
 <hudson.tasks.Shell><command>#!/usr/bin/env python3
print("hi")</command></hudson.tasks.Shell>
</builders>
<publishers>
 <hudson.tasks.ArtifactArchiver><artifacts>dist/*.whl, a.jar</artifacts></hudson.tasks.ArtifactArchiver>
 <hudson.tasks.junit.JUnitResultArchiver><testResults>**/TEST-*.xml</testResults></hudson.tasks.junit.JUnitResultArchiver>
 <hudson.tasks.BuildTrigger><childProjects>deploy</childProjects></hudson.tasks.BuildTrigger>
 <org.example.Weird/>
</publishers>
<buildWrappers><hudson.plugins.build__timeout.BuildTimeoutWrapper><strategy><timeoutMinutes>20</timeoutMinutes></strategy></hudson.plugins.build__timeout.BuildTimeoutWrapper></buildWrappers>
"""


def test_a_freestyle_project_is_a_job() -> None:
    draft = project(PROJECT)
    job = job_of(draft)
    assert job.description == "Builds the shop"
    assert [(rule.cron, rule.tz) for rule in schedules(job)] == [("H 2 * * 1-5", "Europe/Berlin")]
    assert job.spec.labels == "linux && !arm"
    assert job.spec.concurrency == 1
    assert job.spec.timeout_s == 1200
    assert job.spec.keep.builds == 50
    assert job.spec.artifacts == ("dist/*.whl", "a.jar")
    assert job.spec.scm is not None
    assert job.params["suite"].choices == ("fast", "full")
    said = left(draft)
    for text in (
        "'H 99 * * *' is not taken",
        "the credentials 'deploy' of the repository",
        "PW is a secret here (rota secret set PW)",
        "it polled at H/5 * * * *; rota looks every 5 minutes",
        "it starts deploy",
        "<org.example.Weird> is not known",
    ):
        assert text in said


def test_the_steps_of_a_project_run_one_after_the_other(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "ROTA_NUMBER": "7", "suite": "fast"}
    script = project(PROJECT).text()
    done = subprocess.run(
        ["sh", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "7 fast\nhi\n"), done.stderr
    broken = project(
        "<builders><hudson.tasks.Shell><command>false\necho on</command></hudson.tasks.Shell></builders>"
    )
    assert subprocess.run(["sh", "-c", broken.text()], cwd=tmp_path, check=False).returncode != 0


def test_a_step_that_is_not_known_does_not_pass_for_one_that_ran() -> None:
    draft = project(
        "<builders><hudson.tasks.BatchFile><command>dir</command></hudson.tasks.BatchFile><x.Y/></builders>"
    )
    assert (
        "false  # TODO: what a step for Windows did\nfalse  # TODO: what <x.Y> did" in draft.text()
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<flow-definition/>", "config.xml: a pipeline: its Groovy script is no list of steps"),
        (b"<html/>", "config.xml: a <html>, and not a freestyle project"),
        (b"<project>", "config.xml:1: it is broken in line 1, column 10: no element found"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><project/>', "config.xml:1: it declares entities"),
        (b"<a>" * 100, "config.xml:1: it has elements in elements, more than 60 deep"),
    ],
)
def test_what_is_no_project_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_jenkins(data, "x", "config.xml")
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "ci.yml:1:5: no YAML: "),
        ("", "ci.yml: nothing stands in it"),
        ("a: 1", "ci.yml: no workflow: it has no `jobs`"),
        ("a: &a {run: x, env: {A: b}}\njobs: {x: {steps: [" + "*a, " * 9000 + "]}}", "ci.yml: more than 100000 values"),
    ],
)  # fmt: skip
def test_what_is_no_workflow_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        workflow(text)
    assert caught.value.message.startswith(message)


@given(st.text(max_size=200))
def test_any_crontab_makes_jobs_that_can_be_added(text: str) -> None:
    for draft in crontab(text).values():
        job_of(draft)


_VALUES = st.recursive(
    st.text("ab${}.:*&|'\" -\n", max_size=12) | st.sampled_from(["on", "push", "${{ secrets.A }}", "1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["on", "push", "branches", "jobs", "steps", "run", "uses", "with", "env", "if", "needs", "runs-on", "strategy", "matrix", "services", "container", "schedule", "cron", "path", "key", "inputs"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["on", "env", "concurrency", "name"]), _VALUES), _VALUES)
def test_any_workflow_makes_jobs_that_can_be_added(root: dict[str, object], job: object) -> None:
    for draft in workflow(json.dumps({**root, "jobs": {"a": job, "b": job}})).values():
        job_of(draft)


@given(
    st.lists(
        st.sampled_from([b"<project>", b"<builders>", b"</a>", b"<!--", b"&#0;", b"]]>", b"\xff"])
        | st.binary(max_size=8),
        max_size=20,
    )
)
def test_any_bytes_are_a_project_or_are_refused(pieces: list[bytes]) -> None:
    with contextlib.suppress(InputError):
        read_jenkins(b"".join(pieces), "x", "config.xml")


@given(st.text(max_size=80), st.sampled_from(["assignedNode", "description", "disabled"]))
def test_any_text_in_a_project_makes_a_job_that_can_be_added(text: str, tag: str) -> None:
    clean = "".join(char for char in text if char.isprintable() and char not in "<&")
    job_of(project(f"<{tag}>{clean}</{tag}>"))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["a b", "c/d"], "a-b/c/d"),
        (["../.."], "job"),
        ([""], "job"),
        (["ä"], "job"),
        (["x"], "x-2"),
    ],
)
def test_names_are_made_of_what_there_is(parts: list[str], name: str) -> None:
    assert job_name(*parts, taken=["x"]) == name


@pytest.mark.usefixtures("here")
def test_the_command_prints_one_job_and_writes_several(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "tab").write_text("0 1 * * * /bin/one\n0 2 * * * /bin/two\n")
    assert main(["import", "crontab", "tab", "--tz", "UTC"]) == 0
    out, err = capfd.readouterr()
    assert (out, "to write them below jobs/" in err) == ("", True)
    assert main(["import", "crontab", "tab", "--write"]) == 0
    assert (here / "jobs" / "cron" / "two").stat().st_mode & 0o100
    capfd.readouterr()
    assert main(["import", "crontab", "tab", "--write"]) != 0
    assert "jobs/cron/one is there already" in capfd.readouterr().err
    assert main(["import", "crontab", "tab", "--write", "--force"]) == 0
    capfd.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"0 1 * * * /bin/one\n")))
    assert main(["import", "crontab"]) == 0
    assert capfd.readouterr().out.startswith("#!/bin/sh\n# /// script\n")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crontab", "nowhere"], "error: cannot read nowhere: No such file or directory"),
        (["crontab", "-", "--tz", "Europe/Berlim"], "error: --tz: no time zone 'Europe/Berlim'"),
        (["jenkins"], "error: nothing to read\n\nhint: rota import jenkins FILE: a config.xml"),
        (["jenkins", "."], "error: .: no config.xml there"),
        (["github", "."], "error: .: no *.y*ml there"),
        (["crontab", "empty"], "error: nothing in it that could be a job"),
    ],
)
def test_what_cannot_be_imported_is_said(
    words: list[str], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").write_text("# nothing\n")
    assert main(["import", *words]) != 0
    assert capfd.readouterr().err.startswith(said)


def test_a_home_of_jenkins_and_a_repository_are_read_whole(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path, text in {
        "home/jobs/web/jobs/shop/config.xml": "<project><builders><hudson.tasks.Ant/></builders></project>",
        "home/jobs/pipe/config.xml": "<flow-definition/>",
        "repo/.github/workflows/ci.yml": "jobs: {a: {steps: [{run: make}]}}",
    }.items():
        (here / path).parent.mkdir(parents=True)
        (here / path).write_text(text)
    assert main(["import", "jenkins", "home", "--json"]) == 0
    out, err = capfd.readouterr()
    assert [job["name"] for job in json.loads(out)] == ["web/shop"]
    assert "left out: home/jobs/pipe/config.xml: a pipeline" in err
    assert main(["import", "github", "repo", "--to", "web"]) == 0
    assert "set -eo pipefail\n\nmake\n" in capfd.readouterr().out
