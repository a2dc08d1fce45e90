"""Why a build is where it is, in words."""

from __future__ import annotations

from datetime import datetime

from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.job import Reason
from rota.core.people import open_questions
from rota.core.states import State
from rota.service.asked import approval_words, question_words
from rota.service.awaited import awaited_by, held_text
from rota.service.messages import Why
from rota.service.notices import told_words
from rota.service.queueing import queued
from rota.service.sight import Sees, everything
from rota.service.world import World


def explain(world: World, build: Build, now: datetime, sees: Sees = everything) -> Why:
    """Return what ``build`` waits for, or how it ended; of other builds only those that are seen."""
    groups = world.definitions.settings.groups
    if build.state is State.QUEUED:
        clouds = world.definitions.settings.cloud
        return queued(world.cluster, build, now, world.troubles, clouds, sees)
    if build.state is State.HELD:
        awaited = awaited_by(world, build, sees)
        text, kind = held_text(world, build, awaited), "build" if awaited else "release"
        words = approval_words(build, now, groups)
        if words:
            text, kind = "; ".join([text, words] if text != "held" else [words]), "approval"
        state = build.state
        return Why(build=build.ref, state=state, text=text, waits_for=kind, awaited=awaited)
    told = told_words(world, build)
    asked = question_words(build, now, groups)
    text = "; ".join([_text(build, now), *asked, *([told] if told else [])])
    kind = "answer" if open_questions(build) else ""
    return Why(build=build.ref, state=build.state, text=text, waits_for=kind)


def _text(build: Build, now: datetime) -> str:
    if build.state is State.FINISHED:
        return how_it_ended(build)
    since = format_duration((now - (build.started_at or now)).total_seconds())
    text = f"runs on {build.agent} since {since}"
    if build.is_waiting and not open_questions(build):
        text += ", and waits for builds that it asked for: its slot is free for them"
    if build.cancelled_by is not None:
        text += f"; {build.cancelled_by} cancelled it, and it is being ended"
    return text


def how_it_ended(build: Build) -> str:
    """Return one sentence on a finished build."""
    text = "finished"
    match build.reason:
        case Reason.SCRIPT:
            text = f"{build.result}: the script exited with {build.exit_code}"
        case Reason.SIGNAL:
            text = f"failed: signal {build.signal} ended the script, and the agent did not send it"
        case Reason.OOM_KILLED:
            text = "failed: the kernel ended it because memory ran out"
        case Reason.TIMEOUT if build.started_at is None:
            text = "timed out"
        case Reason.TIMEOUT:
            limit = format_duration(build.spec.timeout_s or 0)
            text = f"timed out: it ran longer than {limit} (`timeout`)"
        case Reason.NO_OUTPUT:
            limit = format_duration(build.spec.idle_timeout_s or 0)
            text = f"timed out: it printed nothing for {limit} (`idle_timeout`)"
        case Reason.TOO_MUCH_OUTPUT:
            text = "failed: it printed more than a log may have (`max_build` of [logs] in settings.toml)"
        case Reason.CANCELLED:
            text = f"cancelled by {build.cancelled_by or '?'}"
        case Reason.LOST:
            text = f"lost: {build.agent} no longer knows the outcome"
        case Reason.CHECKOUT:
            text = "errored: its source code could not be checked out"
        case Reason.AGENT_ERROR:
            text = f"errored: {build.agent} could not run it"
        case Reason.UNMET:
            text = "did not run"
        case Reason.SUPERSEDED:
            text = f"superseded by {build.superseded_by}"
        case Reason.REJECTED:
            text = f"rejected by {build.approval.by if build.approval is not None else '?'}"
        case Reason.REPORTS:
            text = "failed: the script passed, and what its reports say did not"
        case Reason.FINALLY:
            text = "failed: the script passed, and its `finally` did not"
        case Reason.GROUP:
            text = str(build.result)
        case None:
            pass
    if build.step:
        text += f", in step {build.step}"
    return f"{text}: {build.message}" if build.message else text
