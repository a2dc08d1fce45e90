"""Webhooks: make one, and take what comes in by it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import asdict, replace

from rota.core.definition_file import HOOKS
from rota.core.events import HookCalled, ScmChanged
from rota.core.hook import HookFile, encode_hook, hook_name_fault, secret_of
from rota.core.ids import derived_id
from rota.core.payload import Moved, is_ping, read_changes, read_lines
from rota.core.repository import repo_key
from rota.core.told import is_known
from rota.core.webhook import Caller, Headers, identify
from rota.errors import DeniedError, InputError, NotFoundError, StaleError, UnavailableError
from rota.ports.safe import Safe
from rota.service import messages as m
from rota.service.committing import commit, until_first
from rota.service.context import Principal, Service

#: The level at which all members understand a hook's file that names a key.
LEVEL = 2
MAX_BODY = 1 << 20
#: What of a call that is no change of a repository goes into the journal.
MAX_DATA = 256 * 1024


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered to a call: the same to its repetition, by whichever agent."""

    hook: str
    forge: str
    event: str
    delivery: str
    refs: tuple[str, ...] = ()  # those that changed
    note: str = ""


# -- verbs ----------------------------------------------------------------------------------------


async def hooks(service: Service, request: m.Nothing, who: Principal) -> list[m.HookView]:
    """List webhooks by name."""
    found = service.world.definitions.hooks
    return [_view(service, name, found[name]) for name in sorted(found)]


async def hook(service: Service, request: m.HookRequest, who: Principal) -> m.HookView:
    """Show a webhook and its secret."""
    return _whole(service, request.hook, _find(service, request.hook))


async def put(service: Service, request: m.PutHookRequest, who: Principal) -> m.HookView:
    """Make a webhook what the request says; nothing is committed where it is so already."""
    name = request.hook
    if (fault := hook_name_fault(name)) is not None:
        raise InputError(f"bad webhook name {name!r}", hint=fault)
    if request.repo:
        _refuse_bad_repo(request.repo)
    asked: int | None = None

    async def attempt(base: str) -> m.HookView | None:
        nonlocal asked
        now = service.world.definitions.hooks.get(name)
        new = now or HookFile(recipient=_recipient(service))
        if request.repo is not None:
            new = replace(new, repo=request.repo)
        if request.rotate and now is not None:
            asked = asked or now.generation + 1
            new = replace(new, generation=max(asked, now.generation), recipient=_recipient(service))
        if new == now:
            return _whole(service, name, new)
        verb = "add" if now is None else "rotate" if request.rotate else "change"
        changes = {_path(name): encode_hook(new)}
        if not await commit(service, base, changes, f"{verb} webhook {name}", who):
            return None
        return replace(_whole(service, name, new), changed=True)

    return await until_first(service, attempt)


async def rm(service: Service, request: m.HookRequest, who: Principal) -> m.HookView:
    """Remove a webhook."""
    name = request.hook

    async def attempt(base: str) -> m.HookView | None:
        found = _find(service, name)
        if not await commit(service, base, {_path(name): None}, f"remove webhook {name}", who):
            return None
        return replace(_view(service, name, found), changed=True)

    return await until_first(service, attempt)


def _path(name: str) -> str:
    return f"{HOOKS}{name}.toml"


def _find(service: Service, name: str) -> HookFile:
    found = service.world.definitions.hooks.get(name)
    if found is None:
        raise NotFoundError(f"no webhook {name!r}", hint=f"make it: rota hook {name}")
    return found


def _refuse_bad_repo(url: str) -> None:
    if re.search(r"//[^/@]*:[^/@]*@", url):
        raise InputError("the repository's URL has a password in it", hint="leave it out")
    if "/" not in repo_key(url) or re.search(r"[\x00-\x20\x7f]", url):
        raise InputError(f"no repository's URL: {url!r}", hint="https://git.example/web.git")


def _recipient(service: Service) -> str:
    """Return by which key new secrets are made; empty for the authority's.

    An agent of an older version would not understand a hook's file that names one.
    """
    world = service.world
    has_safe = getattr(service.secrets, "safe", None) is not None
    return world.definitions.recipient if has_safe and world.cluster.picture.level >= LEVEL else ""


def _secret(service: Service, name: str, file: HookFile) -> str:
    """Return a hook's secret.

    Raises:
        UnavailableError: this agent has not the key that it is made of.
    """
    if not file.recipient:
        return secret_of(service.ca_key(), name, file.generation)
    safe: Safe | None = getattr(service.secrets, "safe", None)
    if safe is None:
        raise UnavailableError(f"the secret of the webhook {name} cannot be made here")
    try:
        return secret_of(safe.identity(file.recipient).encode(), name, file.generation)
    except NotFoundError as error:
        raise UnavailableError(
            f"the secret of the webhook {name} cannot be made here: {error.message}",
            hint="it is asked for by itself; or at another agent. Lost for ever: rota hook NAME --rotate",
        ) from error


def _view(service: Service, name: str, file: HookFile) -> m.HookView:
    base = service.world.definitions.settings.url or service.me.url
    return m.HookView(
        name=name, url=f"{base}/v1/hooks/{name}", repo=file.repo, generation=file.generation
    )


def _whole(service: Service, name: str, file: HookFile) -> m.HookView:
    secret = _secret(service, name, file)
    return replace(_view(service, name, file), secret=secret)


# -- calls ----------------------------------------------------------------------------------------


async def receive(
    service: Service, name: str, headers: Headers, body: bytes, content_type: str
) -> Taken:
    """Take a call of a webhook; what it tells of is in the journal once this returns.

    Raises:
        NotFoundError: there is no such webhook, and no more is said.
        DeniedError: the signature is missing or wrong, or the call is of another repository.
        InputError: the body is not what it should be; nothing was written.
        UnavailableError: the journal cannot take it now; the forge may send it again.
    """
    file = service.world.definitions.hooks.get(name)
    if file is None:
        raise NotFoundError("no such webhook")
    now = service.clock.now()
    secret = _secret(service, name, file)
    caller = identify(name, headers, body, secret, now.timestamp())
    taken = Taken(hook=name, forge=caller.forge, event=caller.event, delivery=caller.delivery[:200])
    if not caller.forge and caller.event == "push":
        author = (headers.get("x-rota-user") or [""])[0]
        return await _changed(service, taken, caller, file, _lines(file, name, body, author))
    data = _data(body, content_type)
    if is_ping(caller.forge, caller.event, data):
        return replace(taken, note="pong")
    changes = read_changes(caller.forge, caller.event, data)
    if changes is not None:
        return await _changed(service, taken, caller, file, changes)
    if len(body) > MAX_DATA:
        raise InputError(
            f"the body has {len(body)} bytes, an event holds at most {MAX_DATA}",
            hint="send what a job needs, and where the rest is",
        )
    return await _called(service, taken, caller, data)


def _lines(file: HookFile, name: str, body: bytes, author: str) -> tuple[Moved, ...]:
    if not file.repo:
        raise InputError(
            f"the webhook {name} is of no repository", hint=f"rota hook {name} --repo URL"
        )
    try:
        return read_lines(body.decode(), file.repo, author)
    except UnicodeDecodeError as error:
        raise InputError(f"the body is not UTF-8 at byte {error.start}") from error


async def _changed(
    service: Service,
    taken: Taken,
    caller: Caller,
    file: HookFile,
    changes: tuple[Moved, ...],
) -> Taken:
    wanted = repo_key(file.repo) if file.repo else ""
    for change in changes:
        if wanted and wanted not in (change.repo, *change.also):
            raise DeniedError(
                f"this webhook is for {wanted}, the call is of {change.repo}",
                known=True,
                hint=f"if that is right: rota hook {taken.hook} --repo {change.url or change.repo}",
            )
    for number, change in enumerate(changes):
        event = ScmChanged(
            at=service.clock.now(),
            by=f"webhook {taken.hook}",
            agent=service.me.name,
            id=derived_id("delivery", taken.hook, caller.key, str(number)),
            forge=caller.forge,
            hook=taken.hook,
            delivery=taken.delivery,
            **asdict(change),
        )
        # Another webhook, or the poller, may have told of it already.
        if not is_known(service.world.cluster.picture.tips, event):
            await _write(service, event)
    return replace(taken, refs=tuple(change.ref for change in changes))


async def _called(service: Service, taken: Taken, caller: Caller, data: dict[str, object]) -> Taken:
    # Forges tell of much that nobody here waits for; it is not worth the journal's room.
    if caller.forge and not service.world.rules.hears(taken.hook):
        return replace(taken, note=f'no job waits for this: on = [{{ hook = "{taken.hook}" }}]')
    event = HookCalled(
        at=service.clock.now(),
        by=f"webhook {taken.hook}",
        agent=service.me.name,
        id=derived_id("delivery", taken.hook, caller.key),
        hook=taken.hook,
        forge=caller.forge,
        event=caller.event,
        delivery=taken.delivery,
        data=data,
    )
    await _write(service, event)
    return taken


async def _write(service: Service, event: ScmChanged | HookCalled) -> None:
    try:
        await service.append(event, expect=0)
    except StaleError:
        return  # the same delivery once more, here or at another agent
    except OverflowError as error:
        raise InputError("the body has an integer of more than 64 bits") from error


def _data(body: bytes, content_type: str) -> dict[str, object]:
    """Return the body as one JSON object; a form's field ``payload`` is JSON.

    Raises:
        InputError: it is none, or is beyond a limit.
    """
    if content_type == "application/x-www-form-urlencoded":
        form = _form(body)
        if "payload" not in form:
            return dict(form)
        body = form["payload"].encode()
    elif content_type not in ("application/json", "application/octet-stream", ""):
        raise InputError(
            f"the body is {content_type}, which is not taken",
            hint="application/json, or application/x-www-form-urlencoded",
        )
    if not body.strip():
        return {}
    try:
        data = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"the body is not a JSON object: {error}") from error
    return data


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=1000, errors="strict"
        )
    except ValueError as error:
        raise InputError(f"the body is not a form: {error}") from error
    return dict(pairs)
