"""The cluster's settings: ``settings.toml`` on main, the same on every agent."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.confinement import Bounds
from rota.core.environment import variable, variable_fault
from rota.core.fields import Field, FieldError, Spot
from rota.core.header import DAY_S, MAX_DURATION_S, MAX_HEADER_CHARACTERS
from rota.core.header_container import absolute, capability
from rota.core.header_limits import MAX_TAKE, limit_name_fault, rate
from rota.core.header_people import principal
from rota.core.header_resources import ISOLATION, resources, user
from rota.core.ids import job_name_fault
from rota.core.job import Rate
from rota.core.kept import Limits
from rota.core.labels import parse_labels, print_labels
from rota.core.policy import AGEING, Policy, Throttle
from rota.core.preferences import Preference
from rota.core.problem import Problem
from rota.core.settings_access import ACCESS, AccessRule
from rota.core.settings_certificates import CERTIFICATES, CertificateSettings
from rota.core.settings_chat import CHAT, ChatNetwork
from rota.core.settings_clouds import Cloud, cloud_name_fault, read_cloud
from rota.core.settings_metrics import METRICS, MetricsSettings
from rota.core.settings_notify import NOTIFY, Mail, Outlet, check_notify
from rota.core.settings_oidc import OIDC, OidcSettings
from rota.core.settings_secrets import SECRETS, SecretSettings
from rota.core.settings_traces import TRACES, TracesSettings
from rota.core.toml_document import Source, read_document

HOUR_S = 3600.0
#: Odd numbers: an even one survives no more losses than the odd one below it.
VOTERS = (1, 3, 5)
#: An origin as browsers send it: lower case, without a path, the port only if it is not the scheme's.
_ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,60}")


class Logs(msgspec.Struct, frozen=True):
    """How long logs are kept: ``[logs]``."""

    max_age_s: float = 30 * DAY_S  # max_age: a log older than this is removed
    max_bytes: int = 20 * 1024**3  # max_bytes: beyond this the oldest are
    max_build_bytes: int = 2 * 1024**3  # max_build: an attempt whose log grows beyond this is ended


class Artifacts(msgspec.Struct, frozen=True):
    """How long artifacts are kept: ``[artifacts]``. A job's ``keep`` may say otherwise."""

    max_age_s: float = 90 * DAY_S  # max_age: what a build left is removed so long after its end
    max_bytes: int = 50 * 1024**3  # max_bytes: beyond this what the oldest builds left is
    store: str = ""  # store: engine, files or bucket; else the engine, and while there is one agent its files
    path: str = ""  # path: of files, a folder that all agents share


class Bucket(msgspec.Struct, frozen=True):
    """A bucket of S3, or of what speaks its protocol: ``[bucket]``.

    Without ``key`` and ``secret`` an agent's environment is asked, then its machine's role.
    """

    name: str = ""
    endpoint: str = ""  # endpoint: where it is; Amazon if empty
    region: str = ""
    prefix: str = "rota/"  # prefix: what the names of all our objects begin with
    key: str = ""  # key: the id of the access key
    secret: str = ""  # secret: the name of the secret that holds the key itself


class Caches(msgspec.Struct, frozen=True):
    """How much caches may take: ``[caches]``."""

    max_bytes: int = 10 * 1024**3  # max_bytes: on each agent; those used longest ago go first
    shared_bytes: int = 20 * 1024**3  # shared_bytes: those that all agents share, in all
    max_age_s: float = 30 * DAY_S  # max_age: a shared one goes that nobody used for so long


class Containers(msgspec.Struct, frozen=True):
    """What jobs may ask of container engines: ``[containers]``."""

    privileged: bool = (
        False  # privileged: whether a container may do all that the machine's root may
    )
    mounts: tuple[
        str, ...
    ] = ()  # mounts: folders of agents that may be mounted, with all below them
    capabilities: tuple[str, ...] = ()  # capabilities: rights that may be added, such as SYS_PTRACE


class Agents(msgspec.Struct, frozen=True):
    """When an agent that is silent is given up: ``[agents]``."""

    lost_after_s: float = 8.0  # lost_after: silent for so long, what it runs is recorded as lost
    stopped_after_s: float = 60.0  # stopped_after: the same for one that said that it stops
    replace_after_s: float = 60.0  # replace_after: a voter lost for so long is replaced


class Builds(msgspec.Struct, frozen=True):
    """What stays of builds: ``[builds]``."""

    keep_failed_workspaces: int = 5  # how many workspaces of failed builds each agent keeps


class Workspaces(msgspec.Struct, frozen=True):
    """How much each agent keeps of workspaces: ``[workspaces]``."""

    max_age_s: float = Limits().age_s  # max_age: where a job's header says nothing else
    max_bytes: int = Limits().bytes  # max_bytes: beyond this the oldest go
    max_count: int = Limits().count  # max_count: beyond this the oldest go
    shell_idle_s: float = HOUR_S  # shell_idle: a shell in which nothing stirs ends after so long


class Queue(msgspec.Struct, frozen=True):
    """In which order builds begin: ``[queue]``."""

    ageing: int = AGEING  # after so many builds of its project a waiting one is a point higher


class RestSettings(msgspec.Struct, frozen=True):
    """What pages in browsers may do with REST: ``[rest]``."""

    origins: tuple[
        str, ...
    ] = ()  # origins: pages of these may read it, with a token that a person gave them
    requests: Rate = Rate(5000, 5.0)  # requests: how often one caller may ask an agent
    events: Rate = Rate(1000, 10.0)  # events: how many events of its own one caller may emit
    calls: Rate = Rate(600, 60.0)  # calls: how often one webhook may be called


class Forge(msgspec.Struct, frozen=True):
    """How a forge is told of builds: ``[forge."git.example"]``, by the host of its clone URLs."""

    kind: str = ""  # kind: github, gitlab, gitea, forgejo, bitbucket, bitbucket-server; else as its webhook says
    api: str = ""  # api: the base of its REST interface, where that is not what its webhook says
    token_file: str = (
        ""  # token_file: on every agent that may lead; else git's credentials are asked
    )
    statuses: bool = True  # statuses: whether it is told at all


class Settings(msgspec.Struct, frozen=True):
    """What holds for every job of the cluster unless its header says otherwise."""

    path: tuple[str, ...] = (  # folders in which a build finds its programs: its PATH
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    )
    env: dict[str, str] = {}  # variables of every build, under those of its job
    timeout_s: float | None = 6 * 3600.0  # timeout: for jobs that name none; None is no limit
    voters: int = 3  # how many agents run one of the engine's servers, if there are so many
    logs: Logs = Logs()
    artifacts: Artifacts = Artifacts()
    bucket: Bucket = Bucket()
    caches: Caches = Caches()
    builds: Builds = Builds()
    workspaces: Workspaces = Workspaces()
    agents: Agents = Agents()
    containers: Containers = Containers()
    queue: Queue = Queue()
    limits: dict[str, int] = {}  # how much of each there is, for headers' `limits`
    throttle: tuple[Throttle, ...] = ()  # how many builds run at once that ask for labels
    share: dict[str, int] = {}  # weights of projects, the first parts of jobs' names; others have 1
    url: str = ""  # where people and forges reach the cluster, such as https://ci.example
    rest: RestSettings = RestSettings()
    forge: dict[str, Forge] = {}
    secrets: SecretSettings = SecretSettings()
    certificates: CertificateSettings = CertificateSettings()
    cloud: dict[str, Cloud] = {}  # where machines are launched
    isolation: Bounds = Bounds()
    chat: dict[str, ChatNetwork] = {}  # where the bot listens and speaks
    mail: Mail | None = None  # how mail leaves
    outlet: dict[str, Outlet] = {}  # services that take notices one way
    notify: tuple[Preference, ...] = ()  # channels: who is told of which builds
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    groups: dict[str, tuple[str, ...]] = {}  # who is meant by @NAME wherever people are named
    oidc: OidcSettings = OidcSettings()
    access: tuple[AccessRule, ...] = ()  # who may more on some jobs than on all


def parse_settings(text: str, path: str = "settings.toml") -> tuple[Settings, tuple[Problem, ...]]:
    """Return the settings that ``text`` says, and all that is wrong with it, sorted by place.

    A faulty key keeps its default. Never raises.
    """
    if len(text) > MAX_HEADER_CHARACTERS:
        message = f"{len(text)} characters, the limit is {MAX_HEADER_CHARACTERS}"
        return Settings(), (Problem(path, 0, 0, message),)
    source = Source(path, tuple(line.removesuffix("\r") for line in text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    spot = Spot(document, problems)
    values = fields.read_table(document.table, spot, _SETTINGS)
    _check_store(Settings(**values), spot)
    check_notify(Settings(**values), spot)
    ordered = sorted(problems, key=lambda it: (it.line, it.column, it.message))
    return Settings(**values), tuple(ordered)


def _check_store(settings: Settings, spot: Spot) -> None:
    """Report a store of artifacts without what it needs."""
    here = spot.at("artifacts").at("store")
    if settings.artifacts.store == "files" and not settings.artifacts.path:
        here.fault(
            "artifacts.store is files, and not where", 'path = "/mnt/shared": all agents see it'
        )
    if settings.artifacts.store == "bucket" and not settings.bucket.name:
        here.fault("artifacts.store is bucket, and not which", '[bucket] with name = "…"')
    if bool(settings.bucket.key) != bool(settings.bucket.secret):
        what = "key" if settings.bucket.key else "secret"
        spot.at("bucket").at(what).fault(
            f"bucket.{what} says nothing alone", "key is the id, secret the name of a secret"
        )


def policy_of(settings: Settings) -> Policy:
    """Return what the fold is to know of the settings."""
    return Policy(
        limits=settings.limits,
        throttles=settings.throttle,
        share=settings.share,
        ageing=settings.queue.ageing,
    )


def kept_limits(settings: Settings) -> Limits:
    """Return how much each agent keeps of workspaces."""
    kept = settings.workspaces
    return Limits(
        count=kept.max_count,
        bytes=kept.max_bytes,
        age_s=kept.max_age_s,
        unasked=settings.builds.keep_failed_workspaces,
    )


def _folder(value: Any, spot: Spot) -> str:
    folder = fields.text(value, spot)
    if not folder.startswith("/"):
        raise FieldError(f"must be absolute, not {fields.printed_value(folder)}")
    if ":" in folder:
        raise FieldError("has a ':', which separates folders in PATH", "one folder an item")
    return folder


def _group_fault(name: str) -> str | None:
    return None if _GROUP.fullmatch(name) else "is no name of a group: letters, digits, - and _"


def _members(value: Any, spot: Spot) -> tuple[str, ...]:
    names = fields.list_of(principal)(value, spot)
    nested = next((name for name in names if name.startswith("@")), None)
    if nested is not None:
        raise FieldError(f"has the group {nested} in it", "groups hold people, not groups")
    return names


def _timeout(value: Any, spot: Spot) -> float | None:
    return None if value == "none" else fields.duration(0.001, MAX_DURATION_S)(value, spot)


def _voters(value: Any, spot: Spot) -> int:
    number = fields.integer(-(1 << 63), 1 << 63)(value, spot)
    if number not in VOTERS:
        hint = "more than half of them must live: 3 survive the loss of one, 5 of two"
        raise FieldError(f"must be 1, 3 or 5, not {number}", hint)
    return number


def _labels(value: Any, spot: Spot) -> str:
    expr, faults = parse_labels(fields.text(value, spot))
    for fault in faults:
        spot.fault(f"{spot.name}: {fault.message}", fault.hint, offset=fault.column)
    if faults:
        raise FieldError
    return print_labels(expr)


def _throttle(value: Any, spot: Spot) -> Throttle:
    throttle = fields.table(_THROTTLE, Throttle)(value, spot)
    if not value.keys() & {"total", "per_agent"}:
        spot.fault(f"{spot.name} needs total or per_agent", "such as per_agent = 1")
    return throttle


def _project_fault(name: str) -> str | None:
    if "/" in name:
        return f"is no project: write {name.partition('/')[0]}, the first part of its jobs' names"
    return job_name_fault(name)


def _base(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise FieldError(f"must be a URL, not {fields.printed_value(url)}", "https://ci.example")
    return url.rstrip("/")


def _file(value: Any, spot: Spot) -> str:
    path = fields.text(value, spot)
    if not path.startswith("/"):
        raise FieldError(f"must be absolute, not {fields.printed_value(path)}")
    return path


def _bucket_name(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise FieldError(
            f"is no bucket's name: {fields.printed_value(name)}", "such as ci-artifacts"
        )
    return name


def _host_fault(host: str) -> str | None:
    return None if re.fullmatch(r"[a-z0-9.:\[\]-]+", host) else "is no host, such as git.example"


def _origin(value: Any, spot: Spot) -> str:
    origin = fields.text(value, spot)
    if origin == "*":
        raise FieldError(
            "must name each origin: '*' would let any page read", 'such as "https://ci.example"'
        )
    if origin != "null" and not _ORIGIN.fullmatch(origin):
        hint = (
            'as browsers send it: scheme, host, port if it has one; such as "http://localhost:8000"'
        )
        raise FieldError(f"is no origin: {fields.printed_value(origin)}", hint)
    return origin


FORGES = ("github", "gitlab", "gitea", "forgejo", "bitbucket", "bitbucket-server")
_FORGE = {
    "kind": Field("kind", fields.one_of(FORGES), 'kind = "gitea"'),
    "api": Field("api", _base, 'api = "https://git.example/api/v1"'),
    "token_file": Field("token_file", _file, 'token_file = "/etc/rota/forge-token"'),
    "statuses": Field("statuses", fields.boolean, "statuses = false"),
}

STORES = ("engine", "files", "bucket")

_LOGS = {
    "max_age": Field("max_age_s", fields.duration(1, 3650 * DAY_S), 'max_age = "30d"'),
    "max_bytes": Field("max_bytes", fields.size(1 << 20, 1 << 60), 'max_bytes = "20G"'),
    "max_build": Field("max_build_bytes", fields.size(1 << 10, 1 << 60), 'max_build = "2G"'),
}

_ARTIFACTS = {
    "max_age": Field("max_age_s", fields.duration(1, 3650 * DAY_S), 'max_age = "90d"'),
    "max_bytes": Field("max_bytes", fields.size(1 << 20, 1 << 60), 'max_bytes = "50G"'),
    "store": Field("store", fields.one_of(STORES), 'store = "bucket"'),
    "path": Field("path", _file, 'path = "/mnt/shared/artifacts"'),
}

_BUCKET = {
    "name": Field("name", _bucket_name, 'name = "ci-artifacts"'),
    "endpoint": Field("endpoint", _base, 'endpoint = "https://minio.example:9000"'),
    "region": Field("region", fields.text, 'region = "eu-central-1"'),
    "prefix": Field("prefix", fields.text, 'prefix = "rota/"'),
    "key": Field("key", fields.text, 'key = "AKIA…"'),
    "secret": Field("secret", fields.text, 'secret = "bucket-key", the name of a secret'),
}

_CACHES = {
    "max_bytes": Field("max_bytes", fields.size(1 << 20, 1 << 60), 'max_bytes = "10G"'),
    "shared_bytes": Field("shared_bytes", fields.size(0, 1 << 60), 'shared_bytes = "20G"'),
    "max_age": Field("max_age_s", fields.duration(1, 3650 * DAY_S), 'max_age = "30d"'),
}

_BUILDS = {
    "keep_failed_workspaces": Field(
        "keep_failed_workspaces", fields.integer(0, 1000), "keep_failed_workspaces = 5"
    ),
}

_WORKSPACES = {
    "max_age": Field("max_age_s", fields.duration(1, 365 * DAY_S), 'max_age = "7d"'),
    "max_bytes": Field("max_bytes", fields.size(1 << 20, 1 << 60), 'max_bytes = "20G"'),
    "max_count": Field("max_count", fields.integer(0, 1000), "max_count = 20"),
    "shell_idle": Field("shell_idle_s", fields.duration(1, DAY_S), 'shell_idle = "1h"'),
}

_SILENCE = fields.duration(2, HOUR_S)

_AGENTS = {
    "lost_after": Field("lost_after_s", _SILENCE, 'lost_after = "8s"'),
    "stopped_after": Field("stopped_after_s", _SILENCE, 'stopped_after = "1m"'),
    "replace_after": Field("replace_after_s", fields.duration(2, DAY_S), 'replace_after = "1m"'),
}

_CONTAINERS = {
    "privileged": Field("privileged", fields.boolean, "privileged = true"),
    "mounts": Field("mounts", fields.list_of(absolute), 'mounts = ["/srv/data"]'),
    "capabilities": Field(
        "capabilities", fields.list_of(capability), 'capabilities = ["SYS_PTRACE"]'
    ),
}

_REST = {
    "origins": Field("origins", fields.list_of(_origin), 'origins = ["https://ci.example"]'),
    "requests": Field("requests", rate, 'requests = "5000/5s"'),
    "events": Field("events", rate, 'events = "1000/10s"'),
    "calls": Field("calls", rate, 'calls = "600/min"'),
}

_QUEUE = {"ageing": Field("ageing", fields.integer(0, 1_000_000), "ageing = 50")}

_THROTTLE = {
    "labels": Field("labels", _labels, 'labels = "docker"'),
    "total": Field("total", fields.integer(0, MAX_TAKE), "total = 4"),
    "per_agent": Field("per_agent", fields.integer(1, MAX_TAKE), "per_agent = 1"),
}

_BOUNDS = {
    "user": Field("user", user, 'user = "build"'),
    "users": Field("users", fields.list_of(user), 'users = ["deploy"]'),
    "network": Field("network", fields.one_of(("host", "none")), 'network = "none"'),
    "resources": Field(
        "resources", resources, 'resources = { cpus = 4, memory = "8G", pids = 2000 }'
    ),
    **ISOLATION,
}

_SETTINGS = {
    "path": Field("path", fields.list_of(_folder), 'path = ["/usr/bin", "/bin"]'),
    "env": Field("env", fields.table_of(variable_fault, variable), 'env = { LANG = "C" }'),
    "timeout": Field("timeout_s", _timeout, 'timeout = "6h", or "none"'),
    "voters": Field("voters", _voters, "voters = 3"),
    "logs": Field("logs", fields.table(_LOGS, Logs), '[logs] with max_age = "30d"'),
    "artifacts": Field(
        "artifacts", fields.table(_ARTIFACTS, Artifacts), '[artifacts] with max_age = "90d"'
    ),
    "bucket": Field("bucket", fields.table(_BUCKET, Bucket), '[bucket] with name = "artifacts"'),
    "caches": Field("caches", fields.table(_CACHES, Caches), '[caches] with max_bytes = "10G"'),
    "builds": Field(
        "builds", fields.table(_BUILDS, Builds), "[builds] with keep_failed_workspaces = 5"
    ),
    "workspaces": Field(
        "workspaces", fields.table(_WORKSPACES, Workspaces), '[workspaces] with max_age = "7d"'
    ),
    "agents": Field("agents", fields.table(_AGENTS, Agents), '[agents] with lost_after = "8s"'),
    "containers": Field(
        "containers",
        fields.table(_CONTAINERS, Containers),
        '[containers] with mounts = ["/srv/data"]',
    ),
    "queue": Field("queue", fields.table(_QUEUE, Queue), "[queue] with ageing = 50"),
    "limits": Field(
        "limits",
        fields.table_of(limit_name_fault, fields.integer(0, MAX_TAKE)),
        "[limits] with licence = 5",
    ),
    "throttle": Field(
        "throttle", fields.list_of(_throttle), '[[throttle]] with labels = "docker", per_agent = 1'
    ),
    "share": Field(
        "share", fields.table_of(_project_fault, fields.integer(1, 1000)), "[share] with web = 2"
    ),
    "url": Field("url", _base, 'url = "https://ci.example"'),
    "rest": Field(
        "rest", fields.table(_REST, RestSettings), '[rest] with origins = ["https://ci.example"]'
    ),
    "forge": Field(
        "forge",
        fields.table_of(_host_fault, fields.table(_FORGE, Forge)),
        '[forge."git.example"] with kind = "gitea"',
    ),
    "cloud": Field(
        "cloud",
        fields.table_of(cloud_name_fault, read_cloud),
        '[cloud.aws] with provider = "ec2", image, size',
    ),
    "isolation": Field(
        "isolation", fields.table(_BOUNDS, Bounds), '[isolation] with user = "build"'
    ),
    "groups": Field(
        "groups", fields.table_of(_group_fault, _members), '[groups] with release = ["ann", "bob"]'
    ),
    **ACCESS,
    **OIDC,
    **SECRETS,
    **CERTIFICATES,
    **METRICS,
    **TRACES,
    **NOTIFY,
    **CHAT,
}
