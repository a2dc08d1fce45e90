"""What a build asks for is written down, and what is written down everybody may read."""

from __future__ import annotations

import msgspec

from rota.errors import InputError
from rota.service.context import Principal, Service
from rota.service.messages import Request


def refuse_leak(service: Service, wanted: Request, who: Principal) -> None:
    """Do nothing, unless a running build asks for something with a value in it that is masked.

    It is refused, not masked: what is asked for with asterisks in it is not what was meant.

    Raises:
        InputError: it has such a value in it; nothing was written.
    """
    build = service.world.find(who.build) if who.build else None
    live = service.world.live_logs.get((build.id, build.attempt)) if build is not None else None
    if live is None or not live.scanner.masks or live.scanner.masks.hides_all:
        return
    data = msgspec.json.encode(wanted)
    if live.scanner.masks.apply(data) != data:
        raise InputError(
            "the request has the value of a secret of this build in it; nothing was written",
            hint="events, parameters and names of artifacts are for everybody to read: let the job"
            " that needs the secret name it in its own header",
        )
