"""The table of commands: what each is called, takes, and which verbs of REST it speaks.

It is data alone, so that ``rota --help``, completion and the reference are made from it without
importing what they do not run; a command's own module is imported when the command is. It stands
beside the table of verbs instead of being generated from it, because at a terminal one command may
be several verbs (``show``) or none (``agent``), and positionals are not fields. What must not drift
is tied: an argument that fills a verb's field takes its help from that field (through
:mod:`rota.client.wire`), and a test fails when a verb, or a field of one, is in no command.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from rota.client.wire import ROUTES


class Mouth(Enum):
    """Where commands are given. The words are the same in all of them."""

    SHELL = "shell"
    REPL = "repl"
    CHAT = "chat"


EVERYWHERE = (Mouth.SHELL, Mouth.REPL, Mouth.CHAT)
#: What reads or writes files of the caller's, asks at the terminal, or shows what no room may see.
AT_TERMINAL = (Mouth.SHELL, Mouth.REPL)
#: What is about this process or its environment: a daemon, a script's build, the shell itself.
IN_SHELL = (Mouth.SHELL,)


class Arg(NamedTuple):
    """A positional (no dash) or an option of a command.

    ``fields`` are the verbs' fields it fills, as ``verb.field``; the first one's description is its
    help unless ``help`` says it better. ``completes`` says what its values are completed from.
    """

    names: tuple[str, ...]
    fields: tuple[str, ...] = ()
    help: str = ""
    kind: str = "text"  # or int, float, flag
    many: str = ""  # ?, *, +, or ... for all that is left
    metavar: str = ""
    choices: tuple[str, ...] = ()
    const: str | None = None  # an option's value where it is given without one
    #: job, build, job-or-build, param, agent, agent-or-label, token, secret, user, users, notify,
    #: file, folder, template
    completes: str = ""
    hidden: bool = False

    @property
    def is_option(self) -> bool:
        """Whether it is named by a dash."""
        return self.names[0].startswith("-")

    @property
    def text(self) -> str:
        """Its help."""
        return self.help or field_text(self.fields[0])

    @property
    def names_file(self) -> bool:
        """Whether its value is a file or folder of the caller's: in a room nobody has any."""
        return self.completes in ("file", "folder")


class Command(NamedTuple):
    """A word after ``rota``. ``call`` is the function that does it, as ``module:function``."""

    name: str
    group: str
    call: str
    args: tuple[Arg, ...] = ()
    verbs: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()  # verbs' fields that the command fills by itself
    help: str = ""
    more: str = ""  # what else a reader of its help should know
    examples: tuple[tuple[str, str], ...] = ()  # (command, what it does)
    has_json: bool = False
    has_data: bool = True  # --data DIR names an agent
    has_dashed_words: bool = False  # words may begin with one dash
    mouths: tuple[Mouth, ...] = EVERYWHERE

    @property
    def summary(self) -> str:
        """What it does, in one line: its own words, or its verb's."""
        return self.help or ROUTES[self.verbs[0]].summary

    @property
    def has_rest(self) -> bool:
        """Whether its last argument is all the words that are left, options or not."""
        return any(arg.many == "..." for arg in self.args)

    @property
    def is_hidden(self) -> bool:
        """Whether only programs call it."""
        return not self.group


def field_text(field: str) -> str:
    """Return the description of ``verb.field``."""
    verb, _, name = field.partition(".")
    return ROUTES[verb].fields[name]


def find(name: str) -> Command | None:
    """Return the command of that name."""
    return next((command for command in COMMANDS if command.name == name), None)


_AGENT, _JOBS, _BUILDS, _REST = "the agent", "jobs", "builds", "the rest"
_IN = Arg(("--in",), help="look at this folder instead", metavar="FOLDER", completes="folder")
GROUPS = (_AGENT, _JOBS, _BUILDS, _REST)

#: What every command takes that speaks to an agent.
AT = Arg(("--at",), help="the agent: http://HOST:PORT, unix:PATH, or a data folder", metavar="URL")
DATA = Arg(
    ("--data",),
    help="the agent's data folder ($ROTA_DATA)",
    metavar="DIR",
    completes="folder",
)
COLOR = Arg(
    ("--color",),
    help="colours: auto (on a terminal, unless NO_COLOR is set), always, never",
    choices=("auto", "always", "never"),
)
JSON = Arg(("--json",), help="print what REST answered, as it is", kind="flag")

_MESSAGE = ("-m", "--message")
_PARAMS = Arg(("params",), help="parameters, as name=value", many="*", metavar="k=v")
_FOLLOW = ("-f", "--follow")
_WAIT = Arg(("--wait",), ("build.wait",), "return when the build has finished", kind="flag")
_RUN_FOLLOW = Arg(
    _FOLLOW, ("log.follow",), "print the build's log until the build has finished", kind="flag"
)


def _build(*fields: str) -> Arg:
    return Arg(("build",), fields, completes="build", metavar="BUILD")


def _agent(*fields: str) -> Arg:
    return Arg(
        ("agent",),
        fields,
        "the agent's name; the one that is asked by default",
        many="?",
        completes="agent",
        metavar="AGENT",
    )


def _job(*fields: str) -> Arg:
    return Arg(("job",), fields, completes="job", metavar="NAME")


_CLONE = Arg(
    ("--clone",), help="read a clone of the store, ask no agent", metavar="DIR", completes="folder"
)

#: What a daemon may be given, whether it joins or not.
_AGENT_ARGS = (
    Arg(("--name",), help="the agent's name; the host's by default", metavar="NAME"),
    Arg(("--listen",), help="where to serve REST and git", metavar="HOST:PORT"),
    Arg(("--labels",), help="what jobs may ask of it, such as docker,arch=arm64"),
    Arg(("--slots",), help="how many builds run at once; the CPUs by default", kind="int"),
)

_EPHEMERAL = Arg(
    ("--ephemeral",),
    help="this machine comes and goes: it never leads, and is forgotten when it is gone",
    kind="flag",
)

COMMANDS: tuple[Command, ...] = (
    Command(
        name="agent",
        group=_AGENT,
        call="agent:agent",
        mouths=IN_SHELL,
        verbs=("invite",),
        help="run an agent: the daemon that takes builds on this machine",
        more="In the foreground, until Ctrl-C; --daemon returns as soon as the agent takes builds.\n"
        "An agent that stops leaves its builds running, and finds them again when it starts.",
        args=(
            *_AGENT_ARGS,
            Arg(
                ("--join",),
                help="join the cluster that gave this token; - reads it from standard input",
                metavar="TOKEN",
            ),
            _EPHEMERAL,
            Arg(
                ("--from-clone",),
                help="begin a new cluster from a clone of the store: its jobs, numbers and history",
                metavar="DIR",
                completes="folder",
            ),
            Arg(
                ("--log-level",),
                help="log from this level on; info by default",
                choices=("debug", "info", "warning", "error"),
            ),
            Arg(
                ("--log-format",),
                help="how it logs; journald under systemd, text elsewhere",
                choices=("auto", "text", "json", "journald"),
            ),
            Arg(("--bus",), help="use this NATS cluster instead of an own engine", metavar="URL"),
            Arg(("--invite",), help="with --daemon: print how others join", kind="flag"),
            Arg(
                ("--daemon",), help="return when it takes builds, and leave it running", kind="flag"
            ),
            Arg(
                ("--install",),
                help="write a systemd unit that runs it with these options, '-' to print it",
                many="?",
                const="",
                metavar="-",
            ),
            Arg(("--ready-fd",), help="say so here when it takes builds", kind="int", hidden=True),
        ),
        examples=(
            ("rota agent --daemon", "start one here, with this machine's CPUs as slots"),
            ("rota agent --daemon --invite", "and print what to type on the machines that join it"),
            (
                "rota agent --listen 0.0.0.0:7070 --labels docker",
                "in the foreground, for others too",
            ),
            ("rota agent --install --labels docker", "let systemd run it"),
        ),
        has_json=True,
    ),
    Command(
        name="reload",
        group=_AGENT,
        call="agent:reload",
        mouths=AT_TERMINAL,
        verbs=("reload",),
        more="Labels, slots, the address, limits of this machine and how it logs stand in agent.toml in the\n"
        "data folder. A file with a fault changes nothing. SIGHUP, and so systemctl reload, does the same.",
        args=(
            Arg(
                ("--log-level",),
                ("reload.log_level",),
                "log from this level on, until it is started or reloads again",
                choices=("debug", "info", "warning", "error"),
            ),
        ),
        examples=(
            ("rota reload", "after a change of agent.toml"),
            ("rota reload --log-level debug", "see more for a while"),
        ),
        has_json=True,
    ),
    Command(
        name="stop",
        group=_AGENT,
        call="agent:stop",
        mouths=AT_TERMINAL,
        verbs=("stop", "status"),
        examples=(("rota stop", "returns when the agent is gone"),),
        has_json=True,
    ),
    Command(
        name="status",
        group=_AGENT,
        call="agent:status",
        verbs=("status",),
        examples=(("rota status", ""), ("rota status --json", "for programs")),
        has_json=True,
    ),
    Command(
        name="doctor",
        group=_AGENT,
        call="doctor:doctor",
        verbs=("doctor",),
        help="look for what is wrong, or will be, on all agents, and say what to do about it",
        more="Exit status 1 if something was found. Where no agent answers it looks at the data folder,\n"
        "and says why the agent would not start.",
        args=(
            Arg(("--own",), ("doctor.own",), "examine the agent that is asked alone", kind="flag"),
            Arg(("--checks",), help="list what is looked at", kind="flag"),
        ),
        examples=(("rota doctor", ""), ("rota doctor --json", "for programs")),
        has_json=True,
    ),
    Command(
        name="agents",
        group=_AGENT,
        call="cluster:agents",
        verbs=("agents", "forget", "revoke_agent", "rotate_key", "secrets"),
        more="Name, state, who leads, who votes, slots in use, labels, URL, and since when.",
        args=(
            Arg(
                ("--forget",),
                ("forget.agent",),
                "remove an agent that is gone for good; its key opens nothing any more",
                metavar="NAME",
                completes="agent",
            ),
            Arg(
                ("--revoke",),
                ("revoke_agent.agent",),
                "the same though it is up, for a machine that was stolen: what it runs is given up",
                metavar="NAME",
                completes="agent",
            ),
            Arg(
                ("--rotate",),
                ("rotate_key.agent",),
                "give an agent another key, while it runs; the former one opens nothing any more",
                metavar="NAME",
                completes="agent",
            ),
            Arg(("--rotate-all",), help="the same for all agents, one by one", kind="flag"),
        ),
        examples=(
            ("rota agents", ""),
            ("rota agents --forget build-7", "its machine will not come back"),
            ("rota agents --revoke build-7", "its machine was stolen"),
            ("rota agents --rotate-all", "another key for each, one after the other"),
        ),
        has_json=True,
    ),
    Command(
        name="clouds",
        group=_AGENT,
        call="clouds:clouds",
        verbs=("clouds", "pause_cloud", "end_machine"),
        more="Each cloud with its state, what it last failed with, and its machines: state, since when,\n"
        "builds, age, and what it was launched for or is ended for.",
        args=(
            Arg(("--pause",), ("pause_cloud.cloud",), "launch nothing more there", metavar="CLOUD"),
            Arg(
                ("--resume",),
                ("pause_cloud.off",),
                "launch machines there again",
                metavar="CLOUD",
            ),
            Arg(
                ("--drain",),
                ("end_machine.machine",),
                "end a machine when it has finished what it runs",
                metavar="MACHINE",
                completes="agent",
            ),
            Arg(
                ("--terminate",),
                ("end_machine.now",),
                "end a machine now; what it runs is lost",
                metavar="MACHINE",
                completes="agent",
            ),
        ),
        examples=(
            ("rota clouds", "what is there, for how long, and what it is for"),
            ("rota clouds --pause aws", "until --resume aws"),
            ("rota clouds --terminate aws-3f9c01aa2b", ""),
        ),
        has_json=True,
    ),
    Command(
        name="token",
        group=_AGENT,
        call="tokens:token",
        mouths=AT_TERMINAL,
        verbs=("make_token", "tokens", "revoke_token", "invite", "invitations", "revoke"),
        help="make, list or revoke tokens: of users, and those with which machines join",
        more="With --for a token is a user's: whoever shows it may what that user may, or less. It is shown\n"
        "once; the cluster keeps its hash. Without --for it is for a machine: whoever has it can become a\n"
        "member until it ends. Pass both on as secrets.",
        args=(
            Arg(
                ("words",),
                ("revoke.id", "revoke_token.id"),
                "[list] | create | revoke ID",
                many="*",
                metavar="WORD",
                completes="token",
            ),
            Arg(
                ("--for",),
                ("make_token.user", "tokens.user"),
                "create, list: of this user; me is who asks",
                metavar="NAME",
            ),
            Arg(
                ("--role",),
                ("make_token.role",),
                "create: at most this role",
                metavar="ROLE",
                choices=("viewer", "builder", "maintainer", "admin"),
            ),
            Arg(
                ("--jobs",),
                ("make_token.jobs",),
                "create: only for jobs that fit these globs",
                metavar="GLOB,…",
            ),
            Arg(
                ("--expires",),
                ("invite.expires_s", "make_token.expires_s"),
                "create: how long it holds, such as 30m; of a user 90d by default, or never; of a machine 1h",
                metavar="TIME",
            ),
            Arg(("--note",), ("make_token.note",), "create: what it is for", metavar="TEXT"),
            Arg(("--uses",), ("invite.uses",), kind="int", metavar="N"),
        ),
        examples=(
            ("rota token create --for me", "prints one line, for: rota login URL"),
            ("rota token create --for deploy --role builder --jobs 'web/**' --expires 30d", ""),
            ("rota token create", "for a machine: rota join TOKEN"),
            ("rota token create --expires 10m --uses 1", ""),
            ("rota token", "those that still open something"),
            ("rota token revoke 3f2a901b77", ""),
        ),
        has_json=True,
    ),
    Command(
        name="join",
        group=_AGENT,
        call="cluster:join",
        mouths=IN_SHELL,
        verbs=("status", "invite"),
        help="start an agent here that joins the cluster of a token",
        more="The same as rota agent --daemon --join TOKEN. It returns when the agent takes builds.",
        args=(
            Arg(
                ("join",),
                help="what rota token create printed; - reads it from standard input",
                metavar="TOKEN",
            ),
            *_AGENT_ARGS,
            _EPHEMERAL,
            Arg(("--invite",), help="print how still others join", kind="flag"),
        ),
        examples=(
            ("rota join rota1.9f…", ""),
            (
                "rota join - --labels docker <token",
                "so that nobody sees it in the list of processes",
            ),
        ),
        has_json=True,
    ),
    Command(
        name="drain",
        group=_AGENT,
        call="cluster:drain",
        verbs=("drain", "status", "agents"),
        args=(
            _agent("drain.agent"),
            Arg(("--off",), ("drain.off",), kind="flag"),
            Arg(("--wait",), help="return when it runs nothing any more", kind="flag"),
        ),
        examples=(
            ("rota drain", "this agent, before its machine is worked on"),
            ("rota drain build-7 --wait", ""),
            ("rota drain --off", "it takes builds again"),
        ),
        has_json=True,
    ),
    Command(
        name="leave",
        group=_AGENT,
        call="cluster:leave",
        verbs=("leave", "status", "agents", "builds", "cancel"),
        sets=("builds.state", "builds.limit", "cancel.build", "cancel.why"),
        more="It returns when the agent is no member any more. What it ran and kept is elsewhere then.",
        args=(
            _agent("leave.agent"),
            Arg(("--now",), help="cancel what it runs instead of waiting for it", kind="flag"),
        ),
        examples=(("rota leave", "this agent"), ("rota leave build-7 --now", "")),
        has_json=True,
    ),
    Command(
        name="label",
        group=_AGENT,
        call="cluster:label",
        verbs=("label", "agents", "status"),
        help="change an agent's labels while it runs, or print them",
        more="They hold over restarts. Without an agent's name it is the one that is asked.",
        args=(
            Arg(
                ("words",),
                ("label.agent", "label.labels"),
                "[AGENT] and labels: name=value or name, and -name to take one away",
                many="*",
                metavar="WORD",
                completes="agent-or-label",
            ),
        ),
        examples=(
            ("rota label docker java=17", "this agent"),
            ("rota label build-7 gpu -docker", ""),
            ("rota label build-7", "print them"),
        ),
        has_json=True,
        has_dashed_words=True,
    ),
    Command(
        name="recover",
        group=_AGENT,
        call="cluster:recover",
        mouths=AT_TERMINAL,
        verbs=("recover",),
        more="Only where a majority of the voters will never come back: what they alone had taken is\n"
        "lost, and is listed. Ask at an agent that is a voter.",
        args=(Arg(("--yes",), help="ask nothing", kind="flag"),),
        examples=(("rota recover", "asks once more at a terminal"),),
        has_json=True,
    ),
    Command(
        name="du",
        group=_AGENT,
        call="usage:du",
        mouths=AT_TERMINAL,
        verbs=("du",),
        help="show what lies on the disks: how large, what bounds it, what would go next",
        more="First what the engine keeps for all, with a copy at each voter; then each agent's own.\n"
        "A size with + is what was counted in a moment: there may be more.",
        args=(),
        examples=(("rota du", ""),),
        has_json=True,
    ),
    Command(
        name="backup",
        group=_AGENT,
        call="backup:backup",
        mouths=IN_SHELL,
        verbs=("backup",),
        help="write all of the cluster into one file, while it goes on, and look whether it is good",
        more="Definitions, history, state, logs, artifacts, and the keys of the cluster and its secrets:\n"
        "keep the file as you keep those, or have them encrypted for an age key of yours. Needs an admin.",
        args=(
            Arg(("file",), help="where to; replaced once the new one is good", metavar="FILE"),
            Arg(
                ("--check",), help="write nothing: look whether FILE is whole and good", kind="flag"
            ),
            Arg(
                ("--recipient",),
                ("backup.recipient",),
                "encrypt the keys for this public key of age",
                metavar="AGE1…",
            ),
            Arg(("--no-logs",), ("backup.logs",), "leave the logs away", kind="flag"),
            Arg(
                ("--no-artifacts",), ("backup.artifacts",), "leave the artifacts away", kind="flag"
            ),
        ),
        examples=(
            ("rota backup /backups/rota.tar", "every night, by cron or by a job"),
            ("rota backup --check /backups/rota.tar", "what is in it, and that it can be restored"),
        ),
        has_json=True,
    ),
    Command(
        name="restore",
        group=_AGENT,
        call="backup:restore",
        mouths=IN_SHELL,
        help="begin a cluster from a back-up, which goes on where that one was",
        more="The same jobs, numbers, history, queue, schedules, users, tokens and secrets, and none of the\n"
        "agents: others join it anew. What ran is recorded as lost. It returns when the agent takes builds.",
        args=(
            Arg(("file",), help="what rota backup wrote", metavar="FILE"),
            *_AGENT_ARGS,
            Arg(
                ("--identity",),
                help="the file of the age identity that opens the keys",
                metavar="FILE",
            ),
            Arg(
                ("--missed",),
                help="what schedules had to do since: skip (the default), or run by their misfire policy",
                choices=("skip", "run"),
            ),
            Arg(("--beside",), help="although the cluster that was backed up is up", kind="flag"),
            Arg(("--no-start",), help="make the data folder, and start nothing", kind="flag"),
        ),
        examples=(
            ("rota restore /backups/rota.tar --data /srv/rota", "where there is no agent yet"),
            ("rota restore rota.tar --identity key.txt", "with keys that were encrypted"),
        ),
    ),
    Command(
        name="login",
        group=_AGENT,
        call="login:login",
        mouths=IN_SHELL,
        verbs=(
            "login_ways",
            "login",
            "login_device",
            "login_poll",
            "login_renew",
            "status",
            "cluster",
        ),
        sets=(
            "login.code",
            "login.verifier",
            "login.nonce",
            "login.redirect",
            "login_poll.code",
            "login_renew.token",
            "login_renew.refresh",
        ),
        help="log in: remember an agent's URL and a token for it",
        more="Where the settings name a provider of identities ([oidc]), a browser is opened, or with --device\n"
        "you are told what to type in one elsewhere; the token holds for some hours, and is\n"
        "renewed by itself if the provider lets it be ([oidc] scopes). Else the token is asked for at a terminal, else read from standard input. Both are kept in\n"
        "~/.config/rota/login.json, for you alone to read, with the cluster's CA and other agents, so\n"
        "that commands find one of those when this one is gone.",
        args=(
            Arg(("url",), help="the agent's URL", many="?", metavar="URL"),
            Arg(("--browser",), help="log in by a browser of this machine", kind="flag"),
            Arg(("--device",), help="log in by a browser of another machine", kind="flag"),
            Arg(("--token",), help="ask for a token in any case", kind="flag"),
            Arg(
                ("--token-file",),
                help="read the token from this file",
                metavar="FILE",
                completes="file",
            ),
            Arg(
                ("--ca",),
                help="trust certificates of this CA: tls/ca.crt of any agent's data folder",
                metavar="FILE",
                completes="file",
            ),
            Arg(
                ("--fingerprint",),
                help="trust the CA with this SHA-256, in hex",
                metavar="SHA256",
            ),
            Arg(("--forget",), help="forget the saved login", kind="flag"),
        ),
        examples=(
            ("rota login https://ci.example", "opens a browser, or asks for a token"),
            ("rota login https://ci.example --device", "on a machine without one"),
            ("rota login https://ci.example --token-file token", ""),
            ("rota login https://10.0.0.1:7071 --ca ca.crt", "what agents call one another by"),
        ),
    ),
    Command(
        name="logout",
        group=_AGENT,
        call="login:logout",
        mouths=IN_SHELL,
        verbs=("revoke_token",),
        sets=("revoke_token.id",),
        help="make the saved login's token worthless, and forget it",
        examples=(("rota logout", ""),),
        has_data=False,
    ),
    Command(
        name="jobs",
        group=_JOBS,
        call="jobs:jobs",
        verbs=("jobs",),
        sets=("jobs.recent",),
        args=(Arg(("match",), ("jobs.match",), many="?", metavar="GLOB", completes="job"),),
        examples=(("rota jobs", "all of them"), ("rota jobs 'web/*'", "")),
        has_json=True,
    ),
    Command(
        name="show",
        group=_JOBS,
        call="jobs:show",
        verbs=("job", "build", "tree", "trend"),
        sets=("tree.wait", "tree.finished", "trend.limit"),
        help="show a job or a build",
        args=(
            Arg(
                ("what",),
                ("job.job", "build.build", "tree.build", "trend.job"),
                "a job's name, or a build: job#number or an id's prefix",
                metavar="NAME|BUILD",
                completes="job-or-build",
            ),
            Arg(("--script",), help="print the job's script alone", kind="flag"),
            Arg(("--wait",), ("build.wait",), kind="float", metavar="SECONDS"),
            Arg(("--tree",), help="show all that belongs to the build, as a tree", kind="flag"),
            Arg(("--trend",), help="show how the job's last builds went, alone", kind="flag"),
        ),
        examples=(
            ("rota show web/test", "its settings and parameters, and how its last builds went"),
            ("rota show 'web/test#7' --tree", "what it needs, its cells, its children"),
            ("rota show web/test --script >test.sh", ""),
            ("rota show 'web/test#7' --json", "all that is known of a build"),
        ),
        has_json=True,
    ),
    Command(
        name="import",
        group=_JOBS,
        call="importing:import_",
        mouths=AT_TERMINAL,
        help="make jobs of a crontab, of Jenkins' freestyle projects, or of GitHub's workflows",
        more="What can be said in a header and a script is said; all else is listed with its line, and stands\n"
        "as a comment in the job. One job is printed, several are listed; --write puts them into jobs/ of a\n"
        "clone of the definitions (rota clone), else into .rota/jobs/ of the repository. A folder\n"
        "stands for all that is in it: Jenkins' home, a repository.",
        args=(
            Arg(("kind",), help="what it is", choices=("crontab", "jenkins", "github")),
            Arg(
                ("files",),
                help="files or folders; - (or nothing, for a crontab) is standard input",
                many="*",
                metavar="FILE",
                completes="file",
            ),
            Arg(("--to",), help="below which folder the jobs stand", metavar="FOLDER"),
            Arg(("--repo",), help="github: where the repository is", metavar="URL"),
            Arg(("--tz",), help="crontab: whose clocks it goes by; this machine's", metavar="ZONE"),
            Arg(
                ("--users",),
                help="crontab: each line names a user, as in /etc/crontab",
                kind="flag",
            ),
            Arg(
                ("-o", "--output"),
                help="write them below this folder",
                metavar="FOLDER",
                completes="folder",
            ),
            Arg(("--write",), help="write them under the usual folder", kind="flag"),
            Arg(("--force",), help="replace files that are there", kind="flag"),
        ),
        examples=(
            ("rota import crontab /etc/cron.d/site", "or: crontab -l | rota import crontab"),
            ("rota import jenkins /var/lib/jenkins -o jobs", "all freestyle projects"),
            ("rota import github . --write", "to .rota/jobs of a repository"),
        ),
        has_json=True,
    ),
    Command(
        name="new",
        group=_JOBS,
        call="templates:new",
        mouths=AT_TERMINAL,
        help="propose jobs for what is in this folder, or print the job of one template",
        more="Alone it looks at the folder and those below it, says which projects are there and how it knows,\n"
        "and writes nothing. With a template it prints that job, filled in with what the folder says; with\n"
        "a NAME, --write or -o it writes a file: into jobs/ of a clone of the definitions, else into\n"
        ".rota/jobs/ of the repository, for rota watch. KEY=VALUE sets a version, a host, a folder\n"
        "…: a list, as in java=17,21, makes a matrix of it.",
        args=(
            Arg(
                ("template",),
                help="which one: see rota templates",
                many="?",
                metavar="TEMPLATE",
                completes="template",
            ),
            Arg(
                ("words",),
                help="the job's name, if it is to be written; and values, such as java=21",
                many="*",
                metavar="NAME|KEY=VALUE",
            ),
            Arg(("--container",), help="the build runs in a container", kind="flag"),
            Arg(("--matrix",), help="a build for each of several versions", kind="flag"),
            _IN,
            Arg(("-o", "--output"), help="write it here", metavar="FILE", completes="file"),
            Arg(
                ("--write",),
                help="write it, or all that is proposed, under the usual names",
                kind="flag",
            ),
            Arg(("--force",), help="replace files that are there", kind="flag"),
        ),
        examples=(
            ("rota new", "what is here?"),
            ("rota new maven | rota add shop/build -", ""),
            ("rota new npm shop/web --in web --container", "writes a file"),
            ("rota new gradle java=17,21", "one build for each"),
            ("rota new python -o nightly.py", "then: rota add nightly nightly.py"),
        ),
        has_json=True,
    ),
    Command(
        name="templates",
        group=_JOBS,
        call="templates:templates",
        mouths=AT_TERMINAL,
        help="list the jobs to start from, and where they fit",
        args=(_IN,),
        examples=(("rota templates", ""),),
        has_json=True,
    ),
    Command(
        name="add",
        group=_JOBS,
        call="jobs:add",
        mouths=AT_TERMINAL,
        verbs=("put", "job"),
        sets=("put.script", "put.if_match", "put.if_none_match"),
        help="add a job",
        more="The same text again is fine and changes nothing; another text for a job that exists is\n"
        "refused unless --force is given.",
        args=(
            _job("put.job"),
            Arg(
                ("file",), help="the script; - is standard input", metavar="FILE", completes="file"
            ),
            Arg(("--force",), help="replace the job if it exists", kind="flag"),
            Arg(_MESSAGE, ("put.message",), metavar="TEXT"),
        ),
        examples=(
            ("rota add web/test test.sh", ""),
            ("rota new bash | rota add hello -", "a first job"),
        ),
        has_json=True,
    ),
    Command(
        name="edit",
        group=_JOBS,
        call="edit:edit",
        mouths=AT_TERMINAL,
        verbs=("put", "job"),
        sets=("put.script", "put.if_match", "put.if_none_match"),
        help="change a job in $VISUAL or $EDITOR, or replace it by a file",
        more="What you wrote is never lost: if it is not taken, it stays in a file.",
        args=(
            _job("put.job"),
            Arg(
                ("file",),
                help="replace the script by this one, - is standard input; no editor",
                many="?",
                metavar="FILE",
                completes="file",
            ),
            Arg(_MESSAGE, ("put.message",), metavar="TEXT"),
        ),
        examples=(
            ("rota edit web/test", ""),
            ("rota edit web/test test.sh -m 'split the suite'", ""),
        ),
        has_json=True,
    ),
    Command(
        name="check",
        group=_JOBS,
        call="check:check",
        mouths=AT_TERMINAL,
        verbs=("check",),
        sets=("check.job", "check.script"),
        help="check scripts' headers, and calendars; needs no agent and changes nothing",
        args=(
            Arg(
                ("files",),
                help="scripts, or files of a folder calendars; - is standard input",
                many="+",
                metavar="FILE",
                completes="file",
            ),
        ),
        examples=(("rota check jobs/*.sh", "prints path:line:column: message, exits with 2"),),
        has_json=True,
    ),
    Command(
        name="rm",
        group=_JOBS,
        call="jobs:rm",
        verbs=("rm",),
        sets=("rm.if_match",),
        args=(_job("rm.job"), Arg(_MESSAGE, ("rm.message",), metavar="TEXT")),
        examples=(("rota rm web/test -m 'the shop is closed'", ""),),
        has_json=True,
    ),
    Command(
        name="pause",
        group=_JOBS,
        call="jobs:pause",
        verbs=("pause",),
        more="What is queued or runs goes on. Instants of its schedules are on record as skipped.",
        args=(
            _job("pause.job"),
            Arg(("reason",), ("pause.reason",), many="*", metavar="REASON"),
            Arg(("--misses",), ("pause.misses",), choices=("skip", "run")),
        ),
        examples=(
            ("rota pause web/test the database moves", ""),
            ("rota pause web/test --misses run", "misfire policies say what is made up for"),
        ),
        has_json=True,
    ),
    Command(
        name="resume",
        group=_JOBS,
        call="jobs:resume",
        verbs=("resume",),
        args=(_job("resume.job"),),
        examples=(("rota resume web/test", ""),),
        has_json=True,
    ),
    Command(
        name="clone",
        group=_JOBS,
        call="clone:clone",
        mouths=AT_TERMINAL,
        verbs=("status",),
        help="clone the store with git; a later git push brings changes back",
        args=(
            Arg(
                ("folder",),
                help="where to; rota-store by default",
                many="?",
                metavar="DIR",
                completes="folder",
            ),
        ),
        examples=(("rota clone defs", "jobs lie in defs/jobs; edit, commit, git push"),),
    ),
    Command(
        name="schedule",
        group=_JOBS,
        call="schedules:schedule",
        verbs=("schedules", "status"),
        help="list what is to fire next, or prove by the history that all was settled once",
        more="Schedules stand in the headers of jobs, under `on`: rota edit JOB changes them.\n"
        "verify works out all instants anew from what the history says, and asks no agent if it\n"
        "is given a clone.",
        args=(
            Arg(
                ("words",),
                ("schedules.match",),
                "[JOB] | verify [JOB]; JOB may be a glob where it lists",
                many="*",
                metavar="WORD",
                completes="job",
            ),
            Arg(("-n", "--limit"), ("schedules.limit",), kind="int", metavar="N"),
            Arg(("--from",), ("schedules.start",), metavar="TIME"),
            _CLONE,
        ),
        examples=(
            ("rota schedule", "the next 20 instants of all jobs"),
            ("rota schedule 'web/*' -n 100 --from 2027-03-28", ""),
            ("rota schedule verify", "each instant fired once, or has a reason"),
            ("rota schedule verify --clone backup", "the same, from a clone alone"),
        ),
        has_json=True,
    ),
    Command(
        name="why-not",
        group=_JOBS,
        call="schedules:why_not",
        verbs=("why_not",),
        args=(
            _job("why_not.job"),
            Arg(("at_time",), ("why_not.at",), metavar="TIME"),
        ),
        examples=(
            ("rota why-not web/test 2026-12-24T18:00", "by the schedule's own clock"),
            ("rota why-not web/test 2026-12-24T17:00:00Z", ""),
        ),
        has_json=True,
    ),
    Command(
        name="backfill",
        group=_JOBS,
        call="schedules:backfill",
        verbs=("backfill",),
        more="Each instant has one build, whoever asks and however often; those that have one are"
        "\nleft alone. What is asked for waits like any other build.",
        args=(
            _job("backfill.job"),
            Arg(("--from",), ("backfill.start",), metavar="TIME"),
            Arg(("--to",), ("backfill.end",), metavar="TIME"),
            Arg(("--dry-run",), ("backfill.dry_run",), kind="flag"),
        ),
        examples=(
            ("rota backfill web/test --from 2026-12-01 --to 2026-12-24", ""),
            ("rota backfill web/test --from 2026-12-24T08:00 --dry-run", "what it would come to"),
        ),
        has_json=True,
    ),
    Command(
        name="simulate",
        group=_JOBS,
        call="schedules:simulate",
        mouths=AT_TERMINAL,
        verbs=("status",),
        help="let days pass in virtual time, and show what schedules come to by hour and label",
        more="It is the leader's own agenda that runs, on a clock that does not wait. Builds last as\n"
        "long as those in the history did on average; of a job that never ran, a minute.",
        args=(
            Arg(("--days",), help="how many days pass; 30 by default", kind="int", metavar="N"),
            Arg(("--job",), help="only the schedules of this job", completes="job", metavar="NAME"),
            Arg(("--from",), help="the first day; today by default", metavar="DATE"),
            Arg(
                ("--outage",),
                help="nobody leads from TIME for LONG, such as 2027-03-28T00:30+2h",
                many="+",
                metavar="TIME+LONG",
            ),
            Arg(
                ("--losses",),
                help="so many leaders are lost, and replaced after 8 s",
                kind="int",
                metavar="N",
            ),
            _CLONE,
        ),
        examples=(
            ("rota simulate --days 365", ""),
            ("rota simulate --days 7 --outage 2027-03-28T00:30+2h", "what an outage would skip"),
        ),
        has_json=True,
    ),
    Command(
        name="run",
        group=_BUILDS,
        call="run:run",
        verbs=("run", "build", "log", "tree"),
        sets=("run.traceparent", "tree.build", "tree.wait", "tree.finished"),
        args=(
            _job("run.job"),
            _PARAMS._replace(fields=("run.params",), completes="param"),
            _WAIT,
            _RUN_FOLLOW,
            Arg(("--priority",), ("run.priority",), kind="int", metavar="N"),
            Arg(("--key",), ("run.key",), metavar="KEY"),
            Arg(("--only",), ("run.only",), kind="flag"),
            Arg(
                ("--keep-workspace",),
                ("run.keep_workspace",),
                choices=("on-failure", "always", "never"),
            ),
            Arg(
                ("--keep-on-failure",),
                help="the same as --keep-workspace on-failure; go into it: rota shell",
                kind="flag",
            ),
        ),
        more="With --wait or -f the exit status is 1 if the build did not pass. Ctrl-C only stops\n"
        "watching: the build goes on. With --json the log of -f goes to standard error.\n\n"
        "What the job needs is asked for first; a job with a matrix comes to one build a cell. From\n"
        "inside a build the new one belongs to it, and its slot is free while it waits.",
        examples=(
            ("rota run web/test suite=full -f", "and watch it"),
            ("rota run web/test --wait --json", "for programs"),
            ("rota run deploy --key release-1.4", "asked twice, built once"),
            ("rota run web/test --keep-on-failure", "to look into its workspace afterwards"),
        ),
        has_json=True,
    ),
    Command(
        name="exec",
        group=_BUILDS,
        call="exec:exec_here",
        mouths=IN_SHELL,
        help="run a job's script here and now, with no agent",
        args=(
            Arg(("file",), help="the script", metavar="FILE", completes="file"),
            _PARAMS,
        ),
        examples=(("rota exec test.sh suite=fast", "try a job before adding it"),),
        has_data=False,
    ),
    Command(
        name="ps",
        group=_BUILDS,
        call="builds:ps",
        verbs=("builds",),
        help="list builds that are held, queued or running",
        args=(Arg(("job",), ("builds.job",), many="?", metavar="NAME", completes="job"),),
        examples=(("rota ps", ""),),
        has_json=True,
    ),
    Command(
        name="queue",
        group=_BUILDS,
        call="queue:queue",
        verbs=("queue", "builds"),
        args=(Arg(("-n", "--limit"), ("queue.limit",), kind="int", metavar="N"),),
        examples=(("rota queue", "who is next, and what the others wait for"),),
        has_json=True,
    ),
    Command(
        name="top",
        group=_BUILDS,
        call="top:top",
        mouths=AT_TERMINAL,
        verbs=("overview", "log", "cancel"),
        sets=("overview.rows", "overview.sort", "overview.after", "overview.wait"),
        help="watch the cluster live: agents, what runs and for how long yet, the queue, failures",
        more="Keys: arrows or j and k select a build, enter shows its log, c cancels it, / filters by job,\n"
        "s sorts, ? tells all keys, q ends. In a pipe, and with --once, it prints one picture.",
        args=(
            Arg(
                ("match",),
                ("overview.match",),
                help="only builds of jobs whose name matches this glob, or contains this word",
                many="?",
                metavar="JOBS",
                completes="job",
            ),
            Arg(
                ("-d", "--delay"),
                help="seconds between pictures; 1 by default",
                kind="float",
                metavar="SECONDS",
            ),
            Arg(("--once",), help="print one picture, and end", kind="flag"),
        ),
        examples=(
            ("rota top", ""),
            ("rota top 'web/**' -d 5", "one project, over a slow line"),
            ("rota top --once", "one picture, for a mail or a script"),
        ),
        has_json=True,
    ),
    Command(
        name="limits",
        group=_BUILDS,
        call="queue:limits",
        verbs=("limits",),
        examples=(("rota limits", ""),),
        has_json=True,
    ),
    Command(
        name="fence",
        group=_BUILDS,
        call="queue:fence",
        verbs=("build",),
        help="print a running build's fencing token; in a script: fail if it is no longer the holder",
        args=(Arg(("build",), ("build.build",), many="?", metavar="BUILD", completes="build"),),
        sets=("build.wait",),
        examples=(
            ("rota fence", "in a script, before it changes what a limit guards"),
            ("rota fence deploy", ""),
        ),
        has_json=True,
    ),
    Command(
        name="builds",
        group=_BUILDS,
        call="builds:builds",
        verbs=("builds",),
        args=(
            Arg(("job",), ("builds.job",), many="?", metavar="NAME", completes="job"),
            Arg(("-n", "--limit"), ("builds.limit",), kind="int", metavar="N"),
            Arg(("--state",), ("builds.state",), metavar="STATE"),
            Arg(("--result",), ("builds.result",), metavar="RESULT"),
            Arg(("--before",), ("builds.before",), kind="int", metavar="SEQ"),
        ),
        examples=(
            ("rota builds web/test -n 5", ""),
            ("rota builds --result failed", "what went wrong lately"),
        ),
        has_json=True,
    ),
    Command(
        name="log",
        group=_BUILDS,
        call="log:log",
        verbs=("log", "build", "grep", "steps"),
        args=(
            Arg(
                ("build",),
                ("log.build", "grep.job"),
                "job#number, a job's name (its latest build), or an id's prefix; with --grep also"
                " a glob of jobs, or nothing for all",
                many="?",
                completes="build",
                metavar="BUILD",
            ),
            Arg(_FOLLOW, ("log.follow",), kind="flag"),
            Arg(("--tail",), ("log.tail",), "only so many last lines", kind="int", metavar="N"),
            Arg(("--grep",), ("log.grep", "grep.pattern"), metavar="RE"),
            Arg(
                ("-n", "--builds"),
                ("grep.builds",),
                "search so many builds, the newest (100)",
                kind="int",
                metavar="N",
            ),
            Arg(("--max",), ("grep.max",), kind="int", metavar="N"),
            Arg(("--result",), ("grep.result",), metavar="RESULT"),
            Arg(("--after",), ("grep.after",), metavar="TIME"),
            Arg(("--before",), ("grep.before",), metavar="TIME"),
            Arg(("--attempt",), ("log.attempt",), kind="int", metavar="N"),
            Arg(
                ("--step",), help="only the step of this name, of the last attempt", metavar="NAME"
            ),
            Arg(("--offset",), ("log.offset",), kind="int", metavar="N"),
            Arg(("--line",), ("log.line",), kind="int", metavar="N"),
            Arg(("--limit",), ("log.limit",), kind="int", metavar="N"),
        ),
        more="Into a file or pipe go the raw bytes. On a terminal workflow commands (::group::,\n"
        "::error::) are drawn, colours are kept, and nothing else reaches the terminal.\n\n"
        "With --grep and no build, a glob, or one of -n, --max, --result, --after and --before, the\n"
        "logs of many builds are searched on all agents; the exit status is 1 if nothing is found.",
        examples=(
            ("rota log web/test -f", "the latest build, until it has finished"),
            ("rota log 'web/test#7' --tail 50", ""),
            ("rota log 'web/test#7' >test.log", "byte for byte what the script printed"),
            ("rota log --grep 'No space left'", "in the last 100 builds of all jobs"),
            ("rota log 'web/*' --grep Timeout -n 1000 --result failed", ""),
        ),
        has_json=True,
    ),
    Command(
        name="cancel",
        group=_BUILDS,
        call="builds:cancel",
        verbs=("cancel",),
        args=(
            _build("cancel.build"),
            Arg(("reason",), ("cancel.why",), many="*", metavar="REASON"),
            Arg(("--alone",), ("cancel.alone",), kind="flag"),
        ),
        examples=(
            ("rota cancel 'web/test#7' wrong branch", "with its cells, its needs, its children"),
            ("rota cancel 'release#2' --alone", "what it asked for goes on"),
        ),
        has_json=True,
    ),
    Command(
        name="retry",
        group=_BUILDS,
        call="run:retry",
        verbs=("retry", "build", "log"),
        args=(_build("retry.build"), _WAIT, _RUN_FOLLOW),
        examples=(("rota retry 'web/test#7' -f", ""),),
        has_json=True,
    ),
    Command(
        name="send",
        group=_BUILDS,
        call="builds:send",
        verbs=("send",),
        args=(
            _build("send.build"),
            Arg(
                ("text",),
                ("send.text",),
                "what to send, a line end is added; - or nothing is standard input",
                many="*",
                metavar="TEXT",
            ),
            Arg(("-n", "--no-newline"), help="add no line end", kind="flag"),
            Arg(("--eof",), ("send.eof",), kind="flag"),
        ),
        examples=(
            ("rota send 'deploy#4' yes", "answer its question"),
            ("rota send 'load#2' --eof <rows.csv", ""),
        ),
        has_json=True,
    ),
    Command(
        name="tests",
        group=_BUILDS,
        call="tests:tests",
        verbs=("tests", "test_history"),
        sets=("tests.bad",),
        help="tests of a build: what failed, what is new; or of a job: failing, flaky, slow",
        more='A job names its reports, JUnit\'s XML or TAP: tests = ["reports/*.xml"]. See docs/reports.md.',
        args=(
            Arg(
                ("what",),
                ("tests.build", "test_history.job"),
                "a build: job#number or an id's prefix; or a job's name",
                metavar="BUILD|JOB",
                completes="job-or-build",
            ),
            Arg(("--all",), help="of a build: all tests, not only those that failed", kind="flag"),
            Arg(("--match",), ("tests.match",), metavar="TEXT"),
            Arg(("--attempt",), ("tests.attempt",), kind="int", metavar="N"),
            Arg(
                ("--case",),
                ("test_history.case",),
                "of a job: the history of one test: its name, or a part of it",
                metavar="NAME",
            ),
            Arg(
                ("--builds",),
                ("test_history.builds",),
                "of a job: look at so many of its last builds",
                kind="int",
                metavar="N",
            ),
            Arg(("-n", "--limit"), ("tests.limit", "test_history.limit"), kind="int", metavar="N"),
        ),
        examples=(
            ("rota tests 'web/test#7'", "what failed, what is new, what is slow"),
            ("rota tests 'web/test#7' --all --match Cart", ""),
            ("rota tests web/test", "which tests are flaky, over its last builds"),
            ("rota tests web/test --case CartTest.adds", "one test from build to build"),
        ),
        has_json=True,
    ),
    Command(
        name="metric",
        group=_BUILDS,
        call="metrics:metric",
        mouths=IN_SHELL,
        help="tell a number of the build that runs: it is followed from build to build",
        more="It prints a line into the build's log: ::metric name=NAME,unit=UNIT::VALUE",
        args=(
            Arg(("name",), help="what to call it, such as size.wheel", metavar="NAME"),
            Arg(("value",), help="a number", metavar="VALUE"),
            Arg(("--unit",), help="such as s, B or %", metavar="UNIT"),
        ),
        examples=(("rota metric size.wheel 12345 --unit B", "in a job's script"),),
        has_data=False,
        has_dashed_words=True,
    ),
    Command(
        name="metrics",
        group=_BUILDS,
        call="metrics:metrics",
        verbs=("metrics",),
        more="Coverage, what scripts told by rota metric, and for nothing: duration, log, cpu, memory.",
        args=(
            _job("metrics.job"),
            Arg(
                ("name",),
                ("metrics.name",),
                "only this metric, or a glob",
                many="?",
                metavar="METRIC",
            ),
            Arg(("--builds",), ("metrics.builds",), kind="int", metavar="N"),
            Arg(("--branch",), ("metrics.branch",), metavar="BRANCH"),
        ),
        examples=(
            ("rota metrics web/test", "a line for each, with its curve"),
            ("rota metrics web/test coverage", "from build to build"),
        ),
        has_json=True,
    ),
    Command(
        name="artifacts",
        group=_BUILDS,
        call="artifacts:artifacts",
        verbs=(
            "artifacts",
            "artifact",
            "keep",
            "promotions",
            "promotion",
            "promote",
            "demote",
        ),
        help="list, fetch, keep or promote the files that builds leave",
        more="WORDS are one of:\n"
        "  [list] BUILD-or-NAME               what there is\n"
        "  get BUILD-or-NAME [PATH-or-GLOB…]  fetch one file, or many with their folders; what broke\n"
        "                                     off goes on, what is there already is left\n"
        "  put FILE [NAME]                    keep a file for a build that runs\n"
        "  put FOLDER [NAME]                  keep all files in it, or one file of it with --tar\n"
        "  promote BUILD [GLOB…] --to NAME    let files stay under a name, whatever the rules\n"
        "  demote NAME                        let them go as others do\n"
        "A * in a glob stays within a folder, a ** does not.",
        args=(
            Arg(
                ("words",),
                (
                    "artifacts.build",
                    "artifact.build",
                    "artifact.path",
                    "keep.path",
                    "promotion.promotion",
                    "promote.build",
                    "promote.artifacts",
                    "demote.promotion",
                ),
                "what to do with which",
                many="*",
                metavar="WORDS",
                completes="build",
            ),
            Arg(
                ("-o", "--output"),
                help="get: write here, - is standard output; the path's last part by default, many"
                " files below the current folder",
                metavar="PLACE",
                completes="file",
            ),
            Arg(
                ("--build",), ("keep.build",), "put: the build; inside one, itself", metavar="BUILD"
            ),
            Arg(("--tar",), help="put: a folder as one .tar.gz, links and modes kept", kind="flag"),
            Arg(("--promoted",), help="list what was promoted", kind="flag"),
            Arg(("--to",), ("promote.to",), "promote: the name", metavar="NAME"),
            Arg(
                ("--keep",),
                ("promote.keep_s",),
                "promote: for how long, such as 365d; for ever by default",
                metavar="TIME",
            ),
            Arg(("--why",), ("promote.why", "demote.why"), metavar="TEXT"),
        ),
        sets=("artifacts.wait",),
        examples=(
            ("rota artifacts 'web/test#7'", "what there is"),
            ("rota artifacts get 'web/test#7' dist/shop.whl", "one file"),
            ("rota artifacts get 'web/test#7' 'dist/**' -o /tmp/shop", "a folder"),
            ("rota artifacts put report.html", "from inside a build"),
            ("rota artifacts promote 'web/build#7' --to release-1.4 --why 'signed off'", ""),
            ("rota artifacts get release-1.4", "all that was promoted"),
        ),
        has_json=True,
    ),
    Command(
        name="caches",
        group=_BUILDS,
        call="caches:caches",
        verbs=("caches", "rm_caches"),
        help="list or forget the folders that builds hand on, of this agent and shared by all",
        args=(
            Arg(
                ("words",),
                ("rm_caches.key",),
                "[rm KEY-or-GLOB]",
                many="*",
                metavar="WORD",
            ),
            Arg(("--project",), ("rm_caches.scope",), "rm: only of this one", metavar="NAME"),
        ),
        examples=(
            ("rota caches", "those used last first"),
            ("rota caches rm 'npm-*'", ""),
        ),
        has_json=True,
    ),
    Command(
        name="step",
        group=_BUILDS,
        call="step:step",
        mouths=IN_SHELL,
        help="name a part of a script: its time, log and status are told apart",
        more="Without a command the step lasts until the next one, or the script's end. With one it is\n"
        "run, and its exit status is the answer. ::group::NAME in a log is a step as well.",
        args=(
            Arg(("name",), help="what to call it", metavar="NAME"),
            Arg(("command",), help="-- and a command to run", many="*", metavar="COMMAND"),
        ),
        examples=(
            ("rota step 'unit tests'", "in a job's script"),
            ("rota step build -- make -j4", ""),
        ),
        has_data=False,
    ),
    Command(
        name="steps",
        group=_BUILDS,
        call="step:steps",
        verbs=("steps",),
        args=(_build("steps.build"),),
        examples=(("rota steps 'web/test#7'", "names, times, results"),),
        has_json=True,
    ),
    Command(
        name="approve",
        group=_BUILDS,
        call="people:approve",
        verbs=("approve",),
        args=(_build("approve.build"), Arg(_MESSAGE, ("approve.why",), metavar="TEXT")),
        more='A job\'s header says who may: approve = { who = ["ann", "@release"] }.',
        examples=(("rota approve 'deploy#4' -m 'tested by hand'", ""),),
        has_json=True,
    ),
    Command(
        name="reject",
        group=_BUILDS,
        call="people:reject",
        verbs=("reject",),
        args=(_build("reject.build"), Arg(_MESSAGE, ("reject.why",), metavar="TEXT")),
        examples=(("rota reject 'deploy#4' -m 'not on a Friday'", ""),),
        has_json=True,
    ),
    Command(
        name="ask",
        group=_BUILDS,
        call="people:ask",
        mouths=IN_SHELL,
        verbs=("ask", "question"),
        sets=("ask.build", "ask.key", "question.build", "question.question", "question.wait"),
        more="It waits for rota answer, and prints the answer. If time is over it prints the default,\n"
        "or exits with 1. It survives restarts of the agent; the build's slot is free meanwhile.",
        args=(
            Arg(("text",), ("ask.text",), many="+", metavar="TEXT"),
            Arg(("--choices",), ("ask.choices",), metavar="a,b"),
            Arg(("--type",), ("ask.type",), choices=("string", "int", "float", "bool")),
            Arg(("--default",), ("ask.default",), metavar="VALUE"),
            Arg(("--who",), ("ask.who",), metavar="a,@b"),
            Arg(
                ("--timeout",),
                ("ask.timeout_s",),
                "how long somebody may answer, such as 1h; as long as the build runs by default",
                metavar="TIME",
            ),
        ),
        examples=(
            ("rota ask 'Go on?' --type bool --default false --timeout 1h", ""),
            ("rota ask 'Which host?' --choices web-1,web-2 --who @release", "prints the answer"),
        ),
        has_json=True,
    ),
    Command(
        name="answer",
        group=_BUILDS,
        call="people:answer",
        verbs=("answer",),
        args=(
            _build("answer.build"),
            Arg(
                ("words",),
                ("answer.question", "answer.value"),
                "[QUESTION] VALUE: the question's number where there are several, and the answer",
                many="+",
                metavar="WORD",
            ),
        ),
        examples=(
            ("rota answer 'deploy#4' web-1", "its only question"),
            ("rota answer 'deploy#4' 2 yes", "the second one"),
        ),
        has_json=True,
    ),
    Command(
        name="asks",
        group=_BUILDS,
        call="people:asks",
        verbs=("asks",),
        examples=(("rota asks", "builds to approve, questions to answer"),),
        has_json=True,
    ),
    Command(
        name="why",
        group=_BUILDS,
        call="builds:why",
        verbs=("why",),
        args=(_build("why.build"),),
        sets=("why.wait",),
        examples=(("rota why 'web/test#7'", ""),),
        has_json=True,
    ),
    Command(
        name="changes",
        group=_BUILDS,
        call="source:changes",
        verbs=("build",),
        help="list the commits since the job's build before, and who committed since the last good one",
        args=(_build("build.build"),),
        sets=("build.wait",),
        examples=(("rota changes web/test", "of its latest build"), ("rota changes 'web#7'", "")),
        has_json=True,
    ),
    Command(
        name="shell",
        group=_BUILDS,
        call="shell:shell",
        mouths=AT_TERMINAL,
        verbs=("shell",),
        help="a shell, or a program, in the workspace of a build that runs or whose workspace is kept",
        args=(
            _build("shell.build"),
            Arg(
                ("command",),
                help="a program and its arguments, all of them as they are; a shell by default",
                many="...",
                metavar="COMMAND",
            ),
            Arg(("--attempt",), ("shell.attempt",), kind="int", metavar="N"),
            Arg(("--tty",), help="a terminal, though this is none", kind="flag"),
            Arg(("--no-tty",), help="pipes, though this is a terminal", kind="flag"),
        ),
        more="Options stand before BUILD: what comes after it is the command. It has the script's folder\n"
        "and environment, without its secrets. Its exit status is the command's; 3 where the\n"
        "connection broke, and the shell with it. Enter ~ . leaves a shell that hangs.\n\n"
        "A shell in a build that runs ends with its script. To have the workspace afterwards:\n"
        "rota run JOB --keep-on-failure.",
        examples=(
            ("rota shell web/test", "a shell in the latest build"),
            ("rota shell web/test#7 git status", ""),
            ("rota shell web/test#7 tar c . >work.tar", "into a file or pipe there is no terminal"),
        ),
    ),
    Command(
        name="workspaces",
        group=_BUILDS,
        call="workspaces:workspaces",
        verbs=("workspaces", "rm_workspace"),
        help="list the workspaces that agents keep, or remove those of builds",
        args=(
            Arg(
                ("words",),
                ("rm_workspace.build",),
                "nothing, or: rm BUILD...",
                many="*",
                metavar="WORD",
                completes="build",
            ),
        ),
        examples=(
            ("rota workspaces", "which there are, how large, until when"),
            ("rota workspaces rm web/test#7", ""),
        ),
        has_json=True,
    ),
    Command(
        name="events",
        group=_REST,
        call="events:events",
        verbs=("events", "status"),
        args=(
            Arg(_FOLLOW, ("events.follow",), kind="flag"),
            Arg(("--after",), ("events.after",), kind="int", metavar="SEQ"),
            Arg(("--kind",), ("events.kind",), metavar="GLOB"),
            Arg(("-n", "--limit"), ("events.limit",), kind="int", metavar="N"),
        ),
        examples=(
            ("rota events -f --kind 'build.*'", ""),
            ("rota events --after 0 --json", "all that ever happened, one JSON a line"),
        ),
        has_json=True,
    ),
    Command(
        name="audit",
        group=_REST,
        call="audit:audit",
        verbs=("audit", "audit_head", "verify"),
        help="list who did what, or verify that records, definitions and logs are what they were",
        more="What is listed goes beyond what the journal still has: it stands in the history.\n"
        "verify has an agent read its store from end to end, fold its journal anew, hash its logs and\n"
        "ask the others; with --clone it reads a clone here and asks nobody. head prints one line to keep\n"
        "elsewhere: who could change all agents at once cannot change that. Status 1: it found flaws.",
        args=(
            Arg(("words",), (), "[list] | head | verify", many="*", metavar="WORD"),
            Arg(("--user",), ("audit.by",), "list: only what this user did", metavar="NAME"),
            Arg(
                ("--job",), ("audit.job",), "list: only on jobs that fit this glob", metavar="GLOB"
            ),
            Arg(
                ("--verb",),
                ("audit.what",),
                "list: only this, such as run or cancel",
                metavar="VERB",
            ),
            Arg(
                ("--after",),
                ("audit.after",),
                "list: only after this time, or within 2h",
                metavar="TIME",
            ),
            Arg(
                ("--until",),
                ("audit.until",),
                "list: only before this time, or 2h ago",
                metavar="TIME",
            ),
            Arg(
                ("--before",),
                ("audit.before",),
                "list: only before the event with this sequence",
                kind="int",
                metavar="SEQ",
            ),
            Arg(("-n", "--limit"), ("audit.limit",), kind="int", metavar="N"),
            _CLONE,
            Arg(
                ("--head",),
                ("verify.head",),
                "verify: against a line that was kept, or a file of such lines",
                metavar="LINE",
            ),
            Arg(("--no-logs",), ("verify.logs",), "verify: leave the logs out", kind="flag"),
        ),
        examples=(
            ("rota audit", "the last 100 things that somebody did"),
            ("rota audit --user ann --job 'web/**' --after 7d", ""),
            ("rota audit verify", "status 1 if a byte is not what it was"),
            ("rota audit head >> /mnt/elsewhere/heads", "daily, say"),
            ("rota audit verify --clone backup --head /mnt/elsewhere/heads", "no agent is asked"),
        ),
        has_json=True,
    ),
    Command(
        name="emit",
        group=_REST,
        call="events:emit",
        verbs=("emit",),
        args=(
            Arg(("type",), ("emit.type",), metavar="TYPE"),
            Arg(("pairs",), ("emit.data",), "data, as name=value", many="*", metavar="k=v"),
            Arg(("--data",), ("emit.data",), metavar="JSON"),
        ),
        examples=(("rota emit deploy.done version=1.4 host=web-3", ""),),
        has_json=True,
        has_data=False,
    ),
    Command(
        name="hooks",
        group=_REST,
        call="hooks:hooks",
        verbs=("hooks",),
        examples=(("rota hooks", ""),),
        has_json=True,
    ),
    Command(
        name="watch",
        group=_JOBS,
        call="watches:watch",
        verbs=("watch",),
        more="Scripts in its .rota/jobs become the jobs NAME/BRANCH/… and follow the branch: changed with\n"
        "it, removed with it, started by its pushes. See docs/source.md.",
        args=(
            Arg(("git",), ("watch.git",), metavar="URL"),
            Arg(("--name",), ("watch.watch",), "its name; the repository's own by default"),
            Arg(
                ("--branches",),
                ("watch.branches",),
                "globs, such as 'main release/*'; all by default",
            ),
            Arg(("--pull-requests",), ("watch.pull_requests",), kind="flag"),
            Arg(
                ("--poll",),
                ("watch.poll_s",),
                "how often to look for pushes, such as 5m; 1m by default",
                metavar="TIME",
            ),
        ),
        examples=(
            ("rota watch https://git.example/web.git", ""),
            ("rota watch /srv/git/web.git --branches 'main release/*' --poll 10s", ""),
        ),
        has_json=True,
    ),
    Command(
        name="watches",
        group=_JOBS,
        call="watches:watches",
        verbs=("watches",),
        examples=(("rota watches", "and what is wrong with their jobs"),),
        has_json=True,
    ),
    Command(
        name="unwatch",
        group=_JOBS,
        call="watches:unwatch",
        verbs=("unwatch",),
        args=(Arg(("name",), ("unwatch.watch",), metavar="NAME"),),
        examples=(("rota unwatch web", ""),),
        has_json=True,
    ),
    Command(
        name="hook",
        group=_REST,
        call="hooks:hook",
        mouths=AT_TERMINAL,
        verbs=("hook", "put_hook", "rm_hook"),
        help="make a webhook, and print its URL and secret",
        more="GitHub, GitLab, Gitea, Forgejo and Bitbucket are known by what they send. Pushes and pull\n"
        'requests start the jobs whose header waits for them: on = [{ push = "main" }]; all else\n'
        'those with on = [{ hook = "NAME" }]. The secret is made from the cluster\'s key and stands\n'
        "nowhere. See docs/triggers.md.",
        args=(
            Arg(("name",), ("hook.hook", "put_hook.hook", "rm_hook.hook"), metavar="NAME"),
            Arg(("--repo",), ("put_hook.repo",), metavar="URL"),
            Arg(("--rotate",), ("put_hook.rotate",), kind="flag"),
            Arg(("--rm",), help="remove it: nobody can call it any more", kind="flag"),
            Arg(
                ("--post-receive",),
                help="print a hook for a bare repository that calls it",
                kind="flag",
            ),
        ),
        examples=(
            ("rota hook github --repo https://github.com/ann/web", "paste what it prints there"),
            ("rota hook github --rotate", "a new secret"),
            (
                "rota hook web --repo /srv/git/web.git --post-receive >hooks/post-receive",
                "in the bare repository; make it executable",
            ),
        ),
        has_json=True,
    ),
    Command(
        name="chat",
        group=_REST,
        call="chat:chat",
        verbs=("chat",),
        more="Each network with its account, its rooms, and the agent that speaks; what is wrong where the\n"
        "bot is not there; and who is known, as the network knows them. See docs/chat.md.",
        examples=(("rota chat", ""),),
        has_json=True,
    ),
    Command(
        name="user",
        group=_REST,
        call="users:user",
        verbs=("users", "user", "put_user", "rm_user", "link_code", "unlink"),
        help="list users, make, change or remove one, link chat identities",
        more="A user is a file of main, users/NAME.toml: a role, e-mail addresses (those of commits), chat\n"
        "identities. Who an agent's socket or the admin's token lets in is an admin whatever that says.\n"
        "link prints a code, good for 10 minutes and once: whoever says it to the bot on a chat network\n"
        "is that user there. A role is given by admins alone; the rest of it users change themselves.\n"
        "See docs/users.md.",
        args=(
            Arg(
                ("words",),
                (
                    "put_user.user",
                    "user.user",
                    "rm_user.user",
                    "link_code.network",
                    "unlink.network",
                    "unlink.who",
                ),
                "[list] | show NAME | set NAME | rm NAME | link [NETWORK] | unlink NETWORK [WHO]",
                many="*",
                metavar="WORD",
                completes="user",
            ),
            Arg(
                ("--user",),
                ("link_code.user", "unlink.user"),
                "show, link, unlink: another user than you",
                metavar="NAME",
                completes="users",
            ),
            Arg(
                ("--role",),
                ("put_user.role",),
                "set: none, viewer, builder, maintainer or admin",
                choices=("none", "viewer", "builder", "maintainer", "admin"),
            ),
            Arg(
                ("--email",),
                ("put_user.emails",),
                "set: e-mail addresses, with commas, those of commits too; '' is none",
                metavar="ADDRESSES",
            ),
            Arg(
                ("--timezone",),
                ("put_user.timezone",),
                "set: where quiet hours are, such as Europe/Berlin; '' is UTC",
                metavar="ZONE",
            ),
        ),
        examples=(
            ("rota user", "who there is"),
            ("rota user set ann --role builder --email ann@example.org", "make one, or change her"),
            ("rota user link irc", "a code to say to the bot on irc"),
            ("rota user unlink matrix --user ann", "nobody is ann there any more"),
        ),
        has_json=True,
    ),
    Command(
        name="notify",
        group=_REST,
        call="users:notify",
        verbs=("user", "add_notify", "rm_notify", "quiet", "try_target"),
        sets=("rm_notify.usual", "try_target.wait"),
        help="see and change what you are told of builds, where, and when not",
        more="Without any rules a user is told of first failures of builds with own commits or asked for by\n"
        "him, of their end (fixed), and of what is asked: on the first network that knows him, or by\n"
        "mail. A rule that is added stands beside these; none is nothing at all, usual takes rules away.\n"
        "See docs/users.md.",
        args=(
            Arg(
                ("words",),
                ("rm_notify.number", "quiet.hours", "try_target.target"),
                "[show] | add | rm NUMBER | none | usual | quiet HOURS | quiet off | test TARGET",
                many="*",
                metavar="WORD",
                completes="notify",
            ),
            Arg(
                ("--user",),
                ("user.user", "add_notify.user", "rm_notify.user", "quiet.user", "try_target.user"),
                "another user than you",
                metavar="NAME",
                completes="users",
            ),
            Arg(
                ("--jobs",),
                ("add_notify.jobs",),
                "add: only jobs that match, such as 'web/**,!web/try'",
                metavar="GLOBS",
            ),
            Arg(
                ("--on",),
                ("add_notify.on",),
                "add: first-failure, failed, fixed, passed, always, asked; with commas",
                metavar="OCCASIONS",
            ),
            Arg(
                ("--to",),
                ("add_notify.to",),
                "add: matrix (you there), mail, irc:#web, an outlet; with commas",
                metavar="TARGETS",
            ),
            Arg(
                ("--whose",),
                ("add_notify.whose",),
                "add: mine (your commits, or asked for by you) or all",
                choices=("mine", "all"),
            ),
            Arg(
                ("--days",),
                ("quiet.days",),
                "quiet: whole days as well, such as sat,sun",
                metavar="DAYS",
            ),
        ),
        examples=(
            ("rota notify", "what you are told"),
            ("rota notify add --jobs 'web/**' --whose all --on failed --to matrix", ""),
            ("rota notify rm 2", "the second of the rules"),
            ("rota notify quiet 22:00-07:00 --days sat,sun", "a digest comes after"),
            ("rota notify test mail", "does it reach you?"),
        ),
        has_json=True,
    ),
    Command(
        name="notices",
        group=_REST,
        call="notices:notices",
        verbs=("notices",),
        help="list notices: those that wait and why, and those that were dropped; or all",
        args=(
            Arg(("-a", "--all"), ("notices.all",), kind="flag"),
            Arg(("--target",), ("notices.target",), metavar="TARGET"),
            Arg(("--build",), ("notices.build",), metavar="BUILD"),
            Arg(("-n", "--limit"), ("notices.limit",), kind="int", metavar="N"),
        ),
        examples=(
            ("rota notices", "what is owed, and what was given up"),
            ("rota notices --all --build 'web#7'", "who was told of a build"),
        ),
        has_json=True,
    ),
    Command(
        name="secret",
        group=_REST,
        call="secrets:secret",
        verbs=("secrets", "put_secret", "rm_secret", "rotate_secrets", "check_secrets"),
        sets=("put_secret.value",),
        help="list secrets, set or remove one, see who would get it, change the key",
        more="A value is read from --file, from standard input, or asked for at a terminal without\n"
        "showing it; it stands on main encrypted, and nobody is shown it again. What is not said of its\n"
        "rules stays as it is; rules alone change with --jobs or --branches and no value.\n"
        "After an agent was removed, rotate encrypts all for a key that it never had; what it knew it\n"
        "knows, so values that matter are to be changed where they are from. If the key is lost with all\n"
        "agents that had it, no value can be read: rotate --drop-lost removes them, to be set again.\n"
        "See docs/secrets.md.",
        args=(
            Arg(
                ("words",),
                (
                    "put_secret.secret",
                    "rm_secret.secret",
                    "check_secrets.job",
                ),
                "[list] | set NAME | rm NAME | rotate | check JOB",
                many="*",
                metavar="WORD",
                completes="secret",
            ),
            Arg(
                ("--file",),
                help="set: read the value from this file; - is standard input",
                metavar="FILE",
                completes="file",
            ),
            Arg(
                ("--jobs",),
                ("put_secret.jobs",),
                "set: only jobs that match, such as 'web/*,!web/try'; '' is all",
                metavar="GLOBS",
            ),
            Arg(
                ("--branches",),
                ("put_secret.branches",),
                "set: only builds of these branches, such as 'main,release/*'; '' is all",
                metavar="GLOBS",
            ),
            Arg(
                ("--description",),
                ("put_secret.description",),
                "set: what it is for",
                metavar="TEXT",
            ),
            Arg(("--force",), ("rm_secret.force",), "rm: also if jobs ask for it", kind="flag"),
            Arg(
                ("--drop-lost",),
                ("rotate_secrets.drop_lost",),
                "rotate: remove secrets that no member can read any more",
                kind="flag",
            ),
            Arg(
                ("--branch",),
                ("check_secrets.branch",),
                "check: for a build of this branch",
                metavar="NAME",
            ),
        ),
        examples=(
            ("rota secret", "names, rules, who set them when, and which jobs ask for them"),
            ("rota secret set NPM_TOKEN", "asks for it, shows nothing"),
            (
                "rota secret set deploy-key --file id_ed25519 --jobs 'web/*' --branches main",
                "",
            ),
            ("rota secret set NPM_TOKEN --branches 'main,release/*'", "its rules alone"),
            ("rota secret check web/deploy --branch main", "what a build of it would be given"),
            ("rota secret rotate", "after an agent was removed"),
        ),
        has_json=True,
    ),
    Command(
        name="repl",
        group=_REST,
        call="repl:repl",
        mouths=IN_SHELL,
        verbs=("overview",),
        help="all commands at a prompt of their own, with completion, history and how the cluster is",
        more="What comes after | or > is the shell's: builds web | grep failed. A line that begins with ! is\n"
        "all its own. Ctrl-C ends what is followed, and builds go on; Ctrl-D ends the prompt.\n"
        "A script ends at its first command that fails, with its status. See docs/repl.md.",
        args=(
            Arg(
                ("file",),
                help="a script of commands, - is standard input; a prompt by default",
                many="?",
                metavar="FILE",
                completes="file",
            ),
            Arg(
                ("-c", "--command"),
                help="carry out these, with ; between them",
                metavar="COMMANDS",
            ),
            Arg(("--keep-going",), help="do not end at a command that fails", kind="flag"),
        ),
        examples=(
            ("rota repl", ""),
            ("rota repl -c 'pause web/deploy; run web/test --wait'", ""),
            ("rota repl nightly.rota --keep-going", "a file of commands, a line each"),
        ),
    ),
    Command(
        name="completion",
        group=_REST,
        call="completion:completion",
        mouths=IN_SHELL,
        help="print the completion script of a shell",
        args=(Arg(("shell",), help="which shell", choices=("bash", "zsh", "fish")),),
        examples=(
            ('eval "$(rota completion bash)"', "in ~/.bashrc"),
            ("rota completion fish >~/.config/fish/completions/rota.fish", ""),
        ),
        has_data=False,
    ),
    Command(
        name="git-credential",
        group="",
        call="clone:git_credential",
        mouths=IN_SHELL,
        verbs=("status",),
        help="speak git's credential protocol, for clones made by rota clone",
        args=(Arg(("action",), help="get, store or erase", metavar="ACTION"),),
    ),
    Command(
        name="__complete",
        group="",
        call="completion:complete",
        mouths=IN_SHELL,
        verbs=("jobs", "builds", "job", "agents", "invitations"),
        help="print what may stand where the last word is, a line each",
        args=(Arg(("words",), help="the words after rota", many="*", metavar="WORD"),),
    ),
)
