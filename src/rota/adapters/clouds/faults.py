"""What providers say when they refuse, in our words: whether it was certainly refused, and why."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from http import HTTPStatus

from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    RotaError,
    UnavailableError,
)

MAX_MESSAGE = 500
#: What EC2 and its likes say; they answer some of it with 5xx, though nothing was done.
_DENIED = re.compile(
    r"UnauthorizedOperation|AuthFailure|InvalidClientTokenId|SignatureDoesNotMatch|OptInRequired"
    r"|AccessDenied|ExpiredToken|RequestExpired|Blocked|MissingAuthenticationToken",
)
_NOT_NOW = re.compile(
    r"\w*LimitExceeded|Insufficient\w*(Capacity|Addresses\w*|Resources?)|Max\w+CountExceeded"
    r"|SpotMaxPriceTooLow|Throttling|PendingVerification|Quota\w*|quota|capacity|\blimit\b|Unsupported",
)
#: The same token for another request: there is a machine already.
_REPEATED = re.compile(r"IdempotentParam\w*")
#: A URL with a query, as the HTTP library prints what it could not send; and a join token.
_SENT = re.compile(r"\S*\?\S*|\S*rota1\.\S*|\S*UserData\S*")
_KEY_HINT = "see key and secret of the cloud in settings.toml, and what they may do"


@contextlib.contextmanager
def translated(cloud: str) -> Iterator[None]:
    """Raise what a driver raises as an error of ours.

    Raises:
        InputError: the provider does not know what it was asked for.
        DeniedError: the key is wrong, or may not do this.
        ConflictError: it does not do it now.
        UnavailableError: anything else; it may have been done.
    """
    try:
        yield
    except RotaError:
        raise
    except Exception as error:
        raise _fault(cloud, error) from error


def _fault(cloud: str, error: Exception) -> RotaError:
    from libcloud.common.exceptions import BaseHTTPError
    from libcloud.common.types import InvalidCredsError
    from libcloud.compute.types import KeyPairDoesNotExistError

    text = _text(error)
    if _REPEATED.search(text) or _REPEATED.search(type(error).__name__):
        return UnavailableError(f"cloud {cloud}: {text}")
    if isinstance(error, InvalidCredsError) or _DENIED.search(text):
        return DeniedError(f"cloud {cloud}: {text}", known=True, hint=_KEY_HINT)
    if isinstance(error, KeyPairDoesNotExistError):
        return InputError(f"cloud {cloud}: there is no key pair {error.name}", hint="see ssh_key")
    status = error.code if isinstance(error, BaseHTTPError) else None
    if isinstance(status, int) and status:
        if _NOT_NOW.search(text) or status == HTTPStatus.TOO_MANY_REQUESTS:
            return ConflictError(f"cloud {cloud}: {text}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return DeniedError(f"cloud {cloud}: {text}", known=True, hint=_KEY_HINT)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return InputError(f"cloud {cloud}: {text}")
    return UnavailableError(f"cloud {cloud}: {text}")


def _text(error: Exception) -> str:
    value = getattr(error, "value", None) or getattr(error, "message", None)
    text = value if isinstance(value, str) and value else str(error)
    # What was sent has user data in it, and that lets a machine join.
    text = _SENT.sub("…", " ".join(text.split()))
    return text[:MAX_MESSAGE] if text else type(error).__name__
