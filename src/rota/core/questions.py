"""A question that a running script asks, and what became of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from rota.core.instant import Instant
from rota.core.job import Int, Param, ParamValue

#: A build asks at most so many: all of them are part of what is known of it.
MAX_QUESTIONS = 50


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What attempt ``attempt`` of a build asked at ``at``, as its ``number``-th question.

    It is open until there is an answer or a leader says that ``until`` has passed; then it has its
    default, or none. Only who is in ``who`` may answer; empty is everybody who may run builds.
    ``key`` makes asking again harmless.
    """

    number: Int
    attempt: Int
    text: str
    key: str = ""
    type: Literal["string", "int", "float", "bool"] = "string"
    choices: tuple[ParamValue, ...] = ()
    default: ParamValue | None = None
    who: tuple[str, ...] = ()
    at: Instant
    until: Instant | None = None
    answer: ParamValue | None = None
    by: str = ""  # who answered
    timed_out: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nobody can answer any more: somebody has, or time is over."""
        return self.answer is not None or self.timed_out

    @property
    def param(self) -> Param:
        """What an answer must be like."""
        return Param(type=self.type, choices=self.choices)
