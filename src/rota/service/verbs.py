"""The table of verbs: what can be asked, from the command line, REST and (later) chat alike.

A verb added here has a route with its OpenAPI operation, and a handler of its name must stand in
:mod:`rota.service.handlers`; a test holds the three together.
"""

from __future__ import annotations

import enum

import msgspec

from rota.core.build import Artifact, Build
from rota.core.questions import Question
from rota.core.steps import Step
from rota.service import messages as m


class Role(enum.IntEnum):
    """What a caller must be allowed; each includes the former."""

    VIEWER = 1
    BUILDER = 2
    MAINTAINER = 3
    ADMIN = 4


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be asked.

    ``path`` has the request's fields in braces, ``{job}`` may contain slashes; the others come
    from the query (GET, DELETE) or the JSON body. ``stream`` verbs answer with bytes or server-sent
    events instead of one JSON value. Of a verb that ``repeats``, asking twice is asking once, so that a
    client which got no answer may ask again.
    """

    name: str
    summary: str
    method: str
    path: str
    request: type[m.Request]
    reply: object
    role: Role = Role.VIEWER
    status: int = 200
    stream: bool = False
    repeats: bool = False


VERBS: tuple[Verb, ...] = (
    Verb(
        name="status",
        summary="how this agent is",
        method="GET",
        path="/v1/status",
        request=m.Nothing,
        reply=m.Status,
    ),
    Verb(
        name="agents",
        summary="all agents, their labels and slots",
        method="GET",
        path="/v1/agents",
        request=m.Nothing,
        reply=list[m.AgentView],
    ),
    Verb(
        name="cluster",
        summary="the cluster as a whole: members, voters, leader, and its certificate authority",
        method="GET",
        path="/v1/cluster",
        request=m.Nothing,
        reply=m.Ring,
    ),
    Verb(
        name="drain",
        summary="let an agent finish what runs and take no more builds; or take them again",
        method="POST",
        path="/v1/agents/{agent}/drain",
        request=m.DrainRequest,
        reply=m.AgentView,
        role=Role.MAINTAINER,
        repeats=True,
    ),
    Verb(
        name="label",
        summary="change an agent's labels while it runs",
        method="POST",
        path="/v1/agents/{agent}/labels",
        request=m.LabelRequest,
        reply=m.AgentView,
        role=Role.MAINTAINER,
        repeats=True,
    ),
    Verb(
        name="leave",
        summary="let an agent finish what runs, hand over what it keeps, and leave for good",
        method="POST",
        path="/v1/agents/{agent}/leave",
        request=m.AgentRequest,
        reply=m.AgentView,
        role=Role.ADMIN,
        repeats=True,
    ),
    Verb(
        name="forget",
        summary="remove an agent that is gone; its key opens nothing any more",
        method="DELETE",
        path="/v1/agents/{agent}",
        request=m.AgentRequest,
        reply=m.AgentView,
        role=Role.ADMIN,
    ),
    Verb(
        name="invite",
        summary="make a token with which other machines join",
        method="POST",
        path="/v1/tokens",
        request=m.InviteRequest,
        reply=m.JoinTokenView,
        role=Role.ADMIN,
        status=201,
    ),
    Verb(
        name="invitations",
        summary="list the join tokens of this agent, without their secrets",
        method="GET",
        path="/v1/tokens",
        request=m.Nothing,
        reply=list[m.JoinTokenView],
        role=Role.ADMIN,
    ),
    Verb(
        name="revoke",
        summary="make a join token of this agent worthless",
        method="DELETE",
        path="/v1/tokens/{id}",
        request=m.RevokeRequest,
        reply=m.JoinTokenView,
        role=Role.ADMIN,
    ),
    Verb(
        name="recover",
        summary="go on with the voters that are left, where a majority is gone for ever",
        method="POST",
        path="/v1/recover",
        request=m.Nothing,
        reply=m.Recovered,
        role=Role.ADMIN,
    ),
    Verb(
        name="stop",
        summary="stop this agent and its engine; running builds go on and are found again",
        method="POST",
        path="/v1/stop",
        request=m.Nothing,
        reply=m.Stopping,
        role=Role.ADMIN,
        status=202,
    ),
    Verb(
        name="jobs",
        summary="list jobs",
        method="GET",
        path="/v1/jobs",
        request=m.JobsRequest,
        reply=list[m.JobSummary],
    ),
    Verb(
        name="job",
        summary="show a job",
        method="GET",
        path="/v1/jobs/{job}",
        request=m.JobRequest,
        reply=m.JobView,
    ),
    Verb(
        name="put",
        summary="add or change a job, in one commit",
        method="PUT",
        path="/v1/jobs/{job}",
        request=m.PutJobRequest,
        reply=m.Committed,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="rm",
        summary="remove a job, in one commit; its history stays",
        method="DELETE",
        path="/v1/jobs/{job}",
        request=m.RemoveJobRequest,
        reply=m.Committed,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="pause",
        summary="take no triggers for a job until it is resumed",
        method="POST",
        path="/v1/jobs/{job}/pause",
        request=m.PauseRequest,
        reply=m.Committed,
        role=Role.MAINTAINER,
        repeats=True,
    ),
    Verb(
        name="resume",
        summary="take triggers for a job again",
        method="POST",
        path="/v1/jobs/{job}/resume",
        request=m.JobRequest,
        reply=m.Committed,
        role=Role.MAINTAINER,
        repeats=True,
    ),
    Verb(
        name="schedules",
        summary="list what is to fire next",
        method="GET",
        path="/v1/schedules",
        request=m.SchedulesRequest,
        reply=m.SchedulesView,
    ),
    Verb(
        name="why_not",
        summary="say why a job did not run at a time, or as which build it did",
        method="GET",
        path="/v1/jobs/{job}/why-not",
        request=m.WhyNotRequest,
        reply=m.WhyNotView,
    ),
    Verb(
        name="backfill",
        summary="make up for the instants of a time that have no build",
        method="POST",
        path="/v1/jobs/{job}/backfill",
        request=m.BackfillRequest,
        reply=m.BackfillView,
        role=Role.BUILDER,
    ),
    Verb(
        name="check",
        summary="check a script's header; changes nothing",
        method="POST",
        path="/v1/check",
        request=m.CheckRequest,
        reply=m.Checked,
    ),
    Verb(
        name="run",
        summary="request a build of a job",
        method="POST",
        path="/v1/jobs/{job}/builds",
        request=m.RunRequest,
        reply=Build,
        role=Role.BUILDER,
        status=201,
    ),
    Verb(
        name="builds",
        summary="list builds, newest first",
        method="GET",
        path="/v1/builds",
        request=m.BuildsRequest,
        reply=list[Build],
    ),
    Verb(
        name="build",
        summary="show a build, or wait for it",
        method="GET",
        path="/v1/builds/{build}",
        request=m.BuildRequest,
        reply=Build,
    ),
    Verb(
        name="tree",
        summary="show a build with what it needs, its cells, and what its script asked for",
        method="GET",
        path="/v1/builds/{build}/tree",
        request=m.TreeRequest,
        reply=m.Tree,
    ),
    Verb(
        name="log",
        summary="read a build's log",
        method="GET",
        path="/v1/builds/{build}/log",
        request=m.LogRequest,
        reply=bytes,
        stream=True,
    ),
    Verb(
        name="grep",
        summary="look for a pattern in the logs of many builds, newest first",
        method="GET",
        path="/v1/logs",
        request=m.GrepRequest,
        reply=bytes,
        stream=True,
    ),
    Verb(
        name="cancel",
        summary="cancel a build in whatever state it is, and all that was asked for by it or for it",
        method="POST",
        path="/v1/builds/{build}/cancel",
        request=m.CancelRequest,
        reply=Build,
        role=Role.BUILDER,
    ),
    Verb(
        name="retry",
        summary="try a finished build again, with what it needs and what waited for it in vain",
        method="POST",
        path="/v1/builds/{build}/retry",
        request=m.RetryRequest,
        reply=Build,
        role=Role.BUILDER,
    ),
    Verb(
        name="send",
        summary="send text to a running script's standard input",
        method="POST",
        path="/v1/builds/{build}/input",
        request=m.SendRequest,
        reply=m.Sent,
        role=Role.BUILDER,
    ),
    Verb(
        name="steps",
        summary="list the steps of a build's last attempt, also while it runs",
        method="GET",
        path="/v1/builds/{build}/steps",
        request=m.StepsRequest,
        reply=list[Step],
    ),
    Verb(
        name="approve",
        summary="let a build begin that has to be approved",
        method="POST",
        path="/v1/builds/{build}/approve",
        request=m.WordRequest,
        reply=Build,
        role=Role.BUILDER,
    ),
    Verb(
        name="reject",
        summary="end a build that has to be approved",
        method="POST",
        path="/v1/builds/{build}/reject",
        request=m.WordRequest,
        reply=Build,
        role=Role.BUILDER,
    ),
    Verb(
        name="ask",
        summary="ask a person, from inside a build",
        method="POST",
        path="/v1/builds/{build}/questions",
        request=m.AskRequest,
        reply=Question,
        role=Role.BUILDER,
        status=201,
    ),
    Verb(
        name="question",
        summary="show a question, or wait for its answer",
        method="GET",
        path="/v1/builds/{build}/questions/{question}",
        request=m.QuestionRequest,
        reply=Question,
    ),
    Verb(
        name="answer",
        summary="answer a question that a build asks",
        method="POST",
        path="/v1/builds/{build}/answer",
        request=m.AnswerRequest,
        reply=Question,
        role=Role.BUILDER,
    ),
    Verb(
        name="asks",
        summary="list what waits for people: builds to approve, questions to answer",
        method="GET",
        path="/v1/asks",
        request=m.Nothing,
        reply=list[m.AskView],
    ),
    Verb(
        name="why",
        summary="say what a build waits for, or why it ended",
        method="GET",
        path="/v1/builds/{build}/why",
        request=m.BuildRequest,
        reply=m.Why,
    ),
    Verb(
        name="queue",
        summary="the queue in the order in which builds would begin, and what they wait for",
        method="GET",
        path="/v1/queue",
        request=m.QueueRequest,
        reply=m.QueueView,
    ),
    Verb(
        name="limits",
        summary="limits and throttles: how much there is, who has it, who waits",
        method="GET",
        path="/v1/limits",
        request=m.Nothing,
        reply=list[m.LimitView],
    ),
    Verb(
        name="artifacts",
        summary="list the files a build left",
        method="GET",
        path="/v1/builds/{build}/artifacts",
        request=m.BuildRequest,
        reply=list[m.ArtifactView],
    ),
    Verb(
        name="artifact",
        summary="read a file that a build left",
        method="GET",
        path="/v1/builds/{build}/artifacts/{path}",
        request=m.ArtifactRequest,
        reply=bytes,
        stream=True,
    ),
    Verb(
        name="keep",
        summary="keep a file as an artifact of a running build; the body is its bytes",
        method="PUT",
        path="/v1/builds/{build}/artifacts/{path}",
        request=m.ArtifactRequest,
        reply=Artifact,
        role=Role.BUILDER,
        status=201,
        stream=True,
    ),
    Verb(
        name="workspaces",
        summary="list the workspaces that agents keep: which, how large, until when",
        method="GET",
        path="/v1/workspaces",
        request=m.Nothing,
        reply=m.WorkspacesView,
    ),
    Verb(
        name="rm_workspace",
        summary="remove what is kept of a build's workspaces",
        method="DELETE",
        path="/v1/builds/{build}/workspace",
        request=m.WorkspaceRequest,
        reply=list[m.WorkspaceView],
        role=Role.BUILDER,
    ),
    Verb(
        name="events",
        summary="read the journal, or follow it as server-sent events",
        method="GET",
        path="/v1/events",
        request=m.EventsRequest,
        reply=list[dict[str, object]],
        stream=True,
    ),
    Verb(
        name="emit",
        summary="write an event of your own to the journal",
        method="POST",
        path="/v1/events",
        request=m.EmitRequest,
        reply=m.Emission,
        role=Role.BUILDER,
        status=201,
    ),
    Verb(
        name="watches",
        summary="list watched repositories, and the jobs that were adopted of each",
        method="GET",
        path="/v1/watches",
        request=m.Nothing,
        reply=list[m.WatchView],
    ),
    Verb(
        name="watch",
        summary="adopt a repository's own jobs for each of its branches, in one commit a change",
        method="PUT",
        path="/v1/watches/{watch}",
        request=m.WatchRequest,
        reply=m.WatchView,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="unwatch",
        summary="watch a repository no longer; its jobs go, what they ran stays",
        method="DELETE",
        path="/v1/watches/{watch}",
        request=m.UnwatchRequest,
        reply=m.WatchView,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="hooks",
        summary="list webhooks, without their secrets",
        method="GET",
        path="/v1/hooks",
        request=m.Nothing,
        reply=list[m.HookView],
    ),
    Verb(
        name="hook",
        summary="show a webhook, its secret included",
        method="GET",
        path="/v1/hooks/{hook}",
        request=m.HookRequest,
        reply=m.HookView,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="put_hook",
        summary="add a webhook, or change it, in one commit",
        method="PUT",
        path="/v1/hooks/{hook}",
        request=m.PutHookRequest,
        reply=m.HookView,
        role=Role.MAINTAINER,
    ),
    Verb(
        name="rm_hook",
        summary="remove a webhook, in one commit: nobody can call it any more",
        method="DELETE",
        path="/v1/hooks/{hook}",
        request=m.HookRequest,
        reply=m.HookView,
        role=Role.MAINTAINER,
    ),
)

BY_NAME = {verb.name: verb for verb in VERBS}
