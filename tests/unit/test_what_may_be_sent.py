"""The page of bounds says what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rota.adapters.git import service as git
from rota.core import (
    chat_words,
    header,
    ids,
    labels,
    masks,
    metrics,
    params,
    pipelines,
    questions,
    steps,
    workflow,
)
from rota.core.settings import Logs, RestSettings
from rota.http import app, arguments, connections, rates
from rota.ports import journal
from rota.service import admission, artifacts, builds, events, guesses, hooks, people

PAGE = Path(__file__).parents[2].joinpath("docs/what-may-be-sent.md").read_text()
MIB, KIB = 1 << 20, 1 << 10
SAID = {
    "a job's script; its header": f"{header.MAX_SCRIPT_BYTES // MIB} MiB; {header.MAX_HEADER_CHARACTERS:,} characters",
    "connections on TCP, and on the Unix sockets": f"{connections.MOST} each",
    "connections from one address (of IPv6: from one /64)": f"{connections.MOST_OF_ADDRESS}",
    "until the first request's head is whole": f"{connections.HEAD_S:g} s; on a connection that goes on, {connections.KEEP_ALIVE_S:g} s",
    "a request's line, each header, number of headers": f"{connections.MAX_LINE} bytes, {connections.MAX_FIELD} bytes, {connections.MAX_FIELDS}",
    "a JSON body": f"{arguments.MAX_BODY // MIB} MiB, whole within {arguments.BODY_S:g} s",
    "a body that goes on (an artifact, a push)": f"{app.CHUNK_S:g} s (a push: {git.IDLE_S:g} s) without a byte",
    "a reader that takes nothing": f"{connections.READER_S:g} s;",
    "answers of one caller that go on: logs, events, shells, files": f"{rates.MOST_STREAMS}",
    "fetches and pushes by git at once": f"{git.MAX_AT_ONCE},",
    "requests of one caller": f"{RestSettings().requests.count} at once, then {1 / RestSettings().requests.step_s:g}/s",
    "events that one caller makes up (`rota emit`)": f"{RestSettings().events.count} at once, then {1 / RestSettings().events.step_s:g}/s",
    "calls of one webhook": f"{RestSettings().calls.count} at once, then {1 / RestSettings().calls.step_s:g}/s",
    "wrong tokens from one address": f"{rates.STRANGERS.count} a minute;",
    "steps of logging in from one address": f"{rates.LOGINS.count} a minute",
    "wrong join tokens from one machine": f"{admission.WRONG_SECRETS} a second",
    "wrong link codes": f"{guesses.TRIES} in ten minutes each, {guesses.TRIES_OF_NETWORK} on a network",
    "a job's name, a label expression": f"{ids.MAX_JOB_NAME}, {labels.MAX_LENGTH} characters, {labels.MAX_DEPTH} deep",
    "parameters of a build": f"{params.MAX_VALUE_BYTES // KIB} KiB a value",
    "an event made up": f"{events.MAX_DATA // KIB} KiB; any event {journal.MAX_EVENT_BYTES:,} bytes",
    "a call of a webhook": f"{hooks.MAX_BODY // MIB} MiB; of what is no change of a repository {hooks.MAX_DATA // KIB} KiB is kept",
    "standard input at once (`rota send`)": f"{builds.MAX_SEND // KIB} KiB",
    "a build's log": f"{Logs().max_build_bytes // (1 << 30)} GiB (`[logs] max_build`)",
    "annotations, steps, metrics of a build": f"{workflow.MAX_ANNOTATIONS}, {steps.MAX_STEPS}, {metrics.MAX_METRICS}",
    "values that a script has masked (`::add-mask::`)": f"{workflow.MAX_SAID};",
    "questions of a build, open at once": f"{questions.MAX_QUESTIONS}, {people.MAX_OPEN}",
    "artifacts of a build": f"{artifacts.MAX_ARTIFACTS}, names of {artifacts.MAX_PATH} characters",
    "builds that one build may set off": f"{pipelines.MAX_BUILDS}, {pipelines.MAX_DEPTH} deep",
    "a command in chat": f"{chat_words.MAX_COMMAND} characters",
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_a_bound_is_what_the_page_says(what: str) -> None:
    row = re.search(rf"^\| {re.escape(what)} \| (.*)$", PAGE, re.MULTILINE)
    assert row is not None
    assert row[1].startswith(SAID[what])


def test_all_of_a_log_is_hidden_before_masks_are_too_many() -> None:
    assert workflow.MAX_SAID < masks.MAX_MASKS
