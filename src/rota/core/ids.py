"""Names and identifiers: how each is written, and how a person may refer to a build.

A job's name is its path under ``jobs/``; a build is ``job#number`` or its id, which any unique
prefix of four characters or more stands for.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

import msgspec

from rota.errors import InputError

JobName = NewType("JobName", str)
AgentName = NewType("AgentName", str)

MAX_JOB_NAME = 200
#: Ids are Crockford base32 without its capital letters: 16 characters are 80 bits, which makes a
#: collision among a billion builds less likely than one in a million.
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 16
MIN_PREFIX = 4

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ID = re.compile(rf"[{ID_ALPHABET}]{{{MIN_PREFIX},{ID_LENGTH}}}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_FULL_ID = re.compile(rf"[{ID_ALPHABET}]{{{ID_LENGTH}}}")


def parse_job_name(text: str) -> JobName:
    """Return ``text`` as a job's name.

    Raises:
        InputError: a segment is empty, or has characters that a path, a URL or a shell would need
            quoted.
    """
    fault = job_name_fault(text)
    if fault is not None:
        raise InputError(
            f"bad job name {text!r}: {fault}",
            hint="letters, digits and _ . + - in segments joined by /, such as web/unit-test",
        )
    return JobName(text)


def job_name_fault(text: str) -> str | None:
    """Say what is wrong with ``text`` as a job's name, or ``None`` if nothing is."""
    if not text:
        return "it is empty"
    if len(text) > MAX_JOB_NAME:
        return f"{len(text)} characters, the limit is {MAX_JOB_NAME}"
    for segment in text.split("/"):
        if not segment:
            return "a segment between slashes is empty"
        if not _SEGMENT.fullmatch(segment):
            return f"the segment {segment!r} does not fit"
        if segment.endswith(".lock"):
            return "git does not allow a name that ends in .lock"
    return None


def parse_agent_name(text: str) -> AgentName:
    """Return ``text`` as an agent's name.

    Raises:
        InputError: not 1 to 63 letters, digits, ``_`` and ``-``.
    """
    if not _AGENT.fullmatch(text):
        raise InputError(
            f"bad agent name {text!r}", hint="1 to 63 letters, digits, _ and -, such as build-3"
        )
    return AgentName(text)


def derived_id(*parts: str) -> str:
    """Return the one build id that these texts stand for."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return "".join(ID_ALPHABET[byte & 31] for byte in digest[:ID_LENGTH])


def is_build_id(text: str) -> bool:
    """Whether ``text`` is a whole build id."""
    return _FULL_ID.fullmatch(text) is not None


def job_of(ref: str) -> str:
    """Return the job of a build that is written as ``job#number``."""
    return ref.rpartition("#")[0]


class BuildRef(msgspec.Struct, frozen=True):
    """How a person named a build: by job and number, by job alone (its latest), or by id prefix.

    A text such as ``deadbeef`` can be both a job and a prefix: then both fields are set, and the
    job, if there is one of that name, wins.
    """

    job: str | None = None
    number: int | None = None
    prefix: str | None = None


def parse_build_ref(text: str) -> BuildRef:
    """Return what ``text`` refers to; whether it exists is not looked at.

    Raises:
        InputError: it is neither ``job#number``, nor a job's name, nor an id's prefix.
    """
    job, hash_sign, number = text.partition("#")
    if hash_sign:
        if not _NUMBER.fullmatch(number) or job_name_fault(job) is not None:
            raise InputError(
                f"bad build {text!r}", hint="write it as job#number, such as web/test#7"
            )
        return BuildRef(job=job, number=int(number))
    prefix = text if _ID.fullmatch(text) else None
    if job_name_fault(text) is not None:
        raise InputError(f"bad build {text!r}", hint="job#number, a job's name, or an id's prefix")
    return BuildRef(job=text, prefix=prefix)
