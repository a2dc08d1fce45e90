"""``[cloud.NAME]`` in settings.toml: where machines are launched when builds wait for them."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.header import DAY_S
from rota.core.labels import parse_agent_labels
from rota.errors import InputError

#: An agent is called after its cloud, with a dash and ten digits; an agent's name ends at 63.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_PROVIDER = re.compile(r"[a-z][a-z0-9_-]{1,60}")
MAX_MACHINES = 1000
MAX_SLOTS = 1000
#: What a machine runs until `rota` is there, where the settings do not say otherwise.
INSTALL = "python3 -m venv /opt/rota && /opt/rota/bin/pip install --quiet rota=={version}"
PROGRAM = "/opt/rota/bin/rota"


class Cloud(msgspec.Struct, frozen=True, kw_only=True):
    """A provider, one kind of machine there, and how many of them there may be."""

    provider: str  # ec2, or another of Apache Libcloud's compute drivers, such as openstack
    image: str
    size: str
    region: str = ""
    labels: dict[str, str] = {}  # labels: what its machines will carry; words and key=value
    slots: int = 1  # builds at once on one machine
    min: int = 0  # so many machines are kept, whether there is work or not
    max: int = 5  # there are never more, those included that are going
    patience_s: float = 10.0  # patience: a build that an agent could take waits so long first
    idle_s: float = 600.0  # idle: a machine with nothing to do is ended after this
    join_within_s: float = 600.0  # join_within: one that is no agent by then is ended
    spot: bool = False  # cheaper, and the provider may take it away
    spot_price: float | None = None  # the most that is paid for an hour; the normal price if absent
    key: str = ""  # a secret, an environment variable of the agent, or a file: the key's id or user
    secret: str = ""  # the same, for the key itself
    endpoint: str = ""  # the URL of the provider's interface, where that is not the usual one
    client_tokens: bool | None = None  # whether the endpoint knows a repeated launch by its token
    security_groups: tuple[str, ...] = ()
    subnet: str = ""
    ssh_key: str = ""  # the name of a key pair at the provider
    setup: str = ""  # shell lines that a machine runs first
    install: str = INSTALL  # and then, to have rota; {version} is this agent's
    program: str = PROGRAM  # where rota is then
    finish: str = ""  # and when its agent has left
    data: str = "/var/lib/rota"  # the agent's folder there; {machine} is its name
    options: dict[str, Any] = {}  # further arguments of Libcloud's driver
    extra: dict[str, Any] = {}  # and of its create_node


def cloud_name_fault(name: str) -> str | None:
    """Say what is wrong with a cloud's name, or ``None`` if nothing is."""
    if _NAME.fullmatch(name) and not name.endswith("-"):
        return None
    return "is no name of a cloud: 1 to 30 small letters, digits and -, a letter first"


def _provider(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _PROVIDER.fullmatch(name):
        raise FieldError(f"cannot be {fields.printed_value(name)}", "such as ec2, openstack, gce")
    return name


def _labels(value: Any, spot: Spot) -> dict[str, str]:
    words = fields.list_of(fields.text)(value, spot)
    try:
        return parse_agent_labels(words)
    except InputError as error:
        raise FieldError(f"has a {error.message}", error.hint) from error


def _word(value: Any, spot: Spot) -> str:
    word = fields.text(value, spot)
    if not word or len(word) > 1000 or any(char.isspace() for char in word):
        raise FieldError(f"cannot be {fields.printed_value(word)}")
    return word


def _price(value: Any, _: Spot) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e6:
        raise FieldError(f"must be a price, not {fields.printed_value(value)}")
    return float(value)


def _endpoint(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise FieldError(f"must be a URL, not {fields.printed_value(url)}")
    return url.rstrip("/")


def _absolute(value: Any, spot: Spot) -> str:
    path = _word(value, spot)
    if not path.startswith("/"):
        raise FieldError(f"must be absolute, not {fields.printed_value(path)}")
    return path


def _anything(value: Any, _: Spot) -> dict[str, Any]:
    if type(value) is not dict:
        raise FieldError(f"must be a table, not {fields.type_name(value)}")
    return value


_FIELDS = {
    "provider": Field("provider", _provider, 'provider = "ec2"'),
    "image": Field("image", _word, 'image = "ami-0123456789abcdef0"'),
    "size": Field("size", _word, 'size = "t3.medium"'),
    "region": Field("region", _word, 'region = "eu-central-1"'),
    "labels": Field("labels", _labels, 'labels = ["linux", "arch=x86_64"]'),
    "slots": Field("slots", fields.integer(1, MAX_SLOTS), "slots = 2"),
    "min": Field("min", fields.integer(0, MAX_MACHINES), "min = 0"),
    "max": Field("max", fields.integer(0, MAX_MACHINES), "max = 10"),
    "patience": Field("patience_s", fields.duration(0, DAY_S), 'patience = "10s"'),
    "idle": Field("idle_s", fields.duration(0, 30 * DAY_S), 'idle = "10m"'),
    "join_within": Field("join_within_s", fields.duration(1, DAY_S), 'join_within = "10m"'),
    "spot": Field("spot", fields.boolean, "spot = true"),
    "spot_price": Field("spot_price", _price, "spot_price = 0.05"),
    "key": Field("key", _word, 'key = "AWS_ACCESS_KEY_ID"'),
    "secret": Field("secret", _word, 'secret = "AWS_SECRET_ACCESS_KEY"'),
    "endpoint": Field("endpoint", _endpoint, 'endpoint = "http://127.0.0.1:5000"'),
    "client_tokens": Field("client_tokens", fields.boolean, "client_tokens = false"),
    "security_groups": Field(
        "security_groups", fields.list_of(_word), 'security_groups = ["sg-0123"]'
    ),
    "subnet": Field("subnet", _word, 'subnet = "subnet-0123"'),
    "ssh_key": Field("ssh_key", _word, 'ssh_key = "ops"'),
    "setup": Field("setup", fields.text, 'setup = "apt-get install -y python3-venv"'),
    "install": Field("install", fields.text, 'install = "pip install rota"'),
    "program": Field("program", _absolute, 'program = "/opt/rota/bin/rota"'),
    "finish": Field("finish", fields.text, 'finish = "shutdown -h now"'),
    "data": Field("data", _absolute, 'data = "/var/lib/rota"'),
    "options": Field("options", _anything, "options = { project = 'ci' }"),
    "extra": Field("extra", _anything, "extra = { ex_iamprofile = 'build' }"),
}

_NEEDED = {"provider", "image", "size"}
_TABLE: fields.Reader[dict[str, Any]] = fields.table(
    _FIELDS, dict, required=("provider", "image", "size")
)


def read_cloud(value: Any, spot: Spot) -> Cloud:
    """Read one ``[cloud.NAME]``."""
    values = _TABLE(value, spot)
    if not values.keys() >= _NEEDED:
        raise FieldError
    cloud = Cloud(**values)
    if cloud.min > cloud.max:
        raise FieldError(f"has min = {cloud.min}, and max = {cloud.max}")
    if cloud.spot_price is not None and not cloud.spot:
        raise FieldError("has a spot_price, and no spot = true")
    return cloud
