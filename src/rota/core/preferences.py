"""Who wants to be told what, and where: ``[[notify]]`` of users and of the settings, ``notify`` of headers.

A *preference* picks builds by their jobs' names and by what they have to do with a user, and says
which *occasions* are worth a word and to which targets it goes. One of the settings is a *channel*:
it is of all builds, whoever made them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.patterns import matches
from rota.core.quiet import read_quiet
from rota.core.targets import Target, read_target

#: What a build may be told for. ``failed`` is each failure, ``first-failure`` one after a good build,
#: ``fixed`` a good build after a failure, ``always`` each end, ``asked`` a question or an approval.
OCCASIONS = ("failed", "first-failure", "fixed", "passed", "always", "asked")
Whose = Literal["mine", "all"]
MAX_PREFERENCES = 50
MAX_GLOB = 300


class Preference(msgspec.Struct, frozen=True):
    """One ``[[notify]]``.

    ``jobs`` are globs of names, as in ``matches`` of :mod:`rota.core.patterns`. ``mine`` are builds
    with commits of the user's, and those that the user asked for.
    """

    to: tuple[Target, ...]
    on: tuple[str, ...]
    jobs: tuple[str, ...] = ("**",)
    whose: Whose = "mine"

    def is_of(self, job: str) -> bool:
        """Whether it picks builds of that job."""
        return matches(self.jobs, job)

    @property
    def text(self) -> str:
        """The preference in words."""
        whose = "my builds" if self.whose == "mine" else "all builds"
        where = ", ".join(target.text for target in self.to)
        of = "" if self.jobs == ("**",) else f" of {' '.join(self.jobs)}"
        return f"{', '.join(self.on)} of {whose}{of} to {where}"


#: On what occasions a known user is told whose file says nothing of it.
DEFAULT_ON = ("first-failure", "fixed", "asked")


class JobNotices(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job's header says by ``notify``.

    ``channels`` take the place of those of the settings, unless ``None``. Without ``committers``
    nobody is told for having committed; who wants to be told of ``all`` builds is, all the same.
    """

    channels: tuple[Preference, ...] | None = None
    committers: bool = True


def read_preferences(value: Any, spot: Spot) -> tuple[Preference, ...]:
    """Read ``[[notify]]`` of a user's file."""
    return _several(value, spot, _preference)


def read_channels(value: Any, spot: Spot) -> tuple[Preference, ...]:
    """Read ``[[notify]]`` of the settings."""
    return _several(value, spot, _channel)


def read_notify(value: Any, spot: Spot) -> JobNotices:
    """Read ``notify`` of a header: channels, or a table; nothing at all is ``[]``."""
    if isinstance(value, list):
        channels = fields.list_of(_header_channel)(value, spot)
        return JobNotices(channels, committers=bool(channels))
    if not isinstance(value, dict):
        hint = 'such as [{ to = "irc:#web", on = "always" }]'
        raise FieldError(f"must be an array or a table, not {fields.type_name(value)}", hint)
    return fields.table(_HEADER, JobNotices)(value, spot)


def _several(value: Any, spot: Spot, read: fields.Reader[Preference]) -> tuple[Preference, ...]:
    found = fields.list_of(read)(value, spot)
    if len(found) > MAX_PREFERENCES:
        raise FieldError(f"has {len(found)} entries, the limit is {MAX_PREFERENCES}")
    return found


def _preference(value: Any, spot: Spot) -> Preference:
    return _needing(fields.table(_PREFERENCE, _made, required=("to",))(value, spot))


def _channel(value: Any, spot: Spot) -> Preference:
    found = _needing(fields.table(_CHANNEL, _made, required=("to",))(value, spot))
    return msgspec.structs.replace(_placed(found, spot), whose="all")


def _header_channel(value: Any, spot: Spot) -> Preference:
    found = _needing(fields.table(_HEADER_CHANNEL, _made, required=("to",))(value, spot))
    return msgspec.structs.replace(_placed(found, spot), whose="all")


def _made(**values: Any) -> Preference | None:
    """Return a preference of what could be read; ``None`` where that is not enough for one."""
    return Preference(**{"on": DEFAULT_ON, **values}) if values.get("to") else None


def _needing(found: Preference | None) -> Preference:
    if found is None:
        raise FieldError
    return found


def _placed(found: Preference, spot: Spot) -> Preference:
    """Report a target that only means something in a user's own file."""
    for target in found.to:
        if target.text == "mail":
            spot.at("to").fault(
                f"{spot.at('to').name} is nobody's mail", 'such as "mail:ops@example.org"'
            )
            raise FieldError
    return found


def _globs(value: Any, spot: Spot) -> tuple[str, ...]:
    globs = fields.one_or_more(_glob)(value, spot)
    if not globs:
        raise FieldError("is empty, so that no job would fit")
    return globs


def _glob(value: Any, spot: Spot) -> str:
    text = fields.text(value, spot)
    if not text.removeprefix("!") or len(text) > MAX_GLOB or not text.isprintable():
        raise FieldError(f"is no pattern of jobs' names: {printed_value(text)}", 'such as "web/**"')
    return text


def _occasions(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.one_or_more(fields.one_of(OCCASIONS))(value, spot)
    if not found:
        raise FieldError("is empty, so that nothing would be told")
    return tuple(dict.fromkeys(found))


def _targets(value: Any, spot: Spot) -> tuple[Target, ...]:
    found = fields.one_or_more(read_target)(value, spot)
    if not found:
        raise FieldError("is empty, so that nobody would be told")
    return tuple(dict.fromkeys(found))


_HEADER_CHANNEL = {
    "on": Field("on", _occasions, 'on = ["first-failure", "fixed"]'),
    "to": Field("to", _targets, 'to = ["irc:#web"]'),
}
_CHANNEL = {"jobs": Field("jobs", _globs, 'jobs = "web/**"'), **_HEADER_CHANNEL}
_PREFERENCE = {
    **_CHANNEL,
    "whose": Field("whose", fields.one_of(("mine", "all")), 'whose = "mine"'),
}
_HEADER = {
    "channels": Field(
        "channels", fields.list_of(_header_channel), 'channels = [{ to = "irc:#web" }]'
    ),
    "committers": Field("committers", fields.boolean, "committers = false"),
}

#: What users' files say by these keys.
PREFERENCES = {
    "quiet": Field("quiet", read_quiet, '[quiet] with from = "22:00", to = "07:00"'),
    "notify": Field(
        "preferences", read_preferences, '[[notify]] with on = ["fixed"], to = ["mail"]'
    ),
}
