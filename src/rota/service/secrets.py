"""Secrets: what reads them for builds and for the agent itself, and the verbs that change them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from rota.core.build import Build
from rota.core.definitions import Definitions
from rota.core.scm import Source
from rota.core.secret_use import SecretUse, provider_name_fault, secret_name_fault
from rota.core.secrets import (
    RECIPIENTS,
    Rules,
    SecretFile,
    bind,
    encode_recipient,
    encode_secret,
    job_refusal,
    patterns_fault,
    refusal,
    secret_path,
    source_refusal,
    unbind,
    value_fault,
)
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    UnavailableError,
)
from rota.ports.programs import Programs
from rota.ports.safe import Safe
from rota.service import messages as m
from rota.service.builds import find_definition
from rota.service.committing import commit, until_first
from rota.service.context import Principal, Service
from rota.service.members import known
from rota.service.world import World

logger = logging.getLogger(__name__)

#: How long a member may take to hand over, or to take, the cluster's identity.
PEER_S = 5.0
#: A build whose parents are more than these is nobody's child.
MAX_DEPTH = 64


class StoreSecrets:
    """See :class:`rota.ports.secrets.Secrets`: those of the store, and those of providers."""

    def __init__(self, service: Service, safe: Safe, programs: Programs) -> None:
        self._service, self.safe, self._programs = service, safe, programs
        self._fetching = asyncio.Lock()

    async def read(self, name: str, *, build: Build | None = None) -> bytes:
        """Return a secret's value."""
        provider, colon, path = name.partition(":")
        if colon:
            return await self._provided(provider, path, build)
        file = self._service.world.definitions.secrets.get(name)
        if file is None:
            raise NotFoundError(f"no secret {name!r}", hint=f"rota secret set {name}")
        self._refuse(name, file.rules, build)
        return await self.open(name, file)

    async def open(self, name: str, file: SecretFile) -> bytes:
        """Return what a secret's file has encrypted, whoever it is for.

        Raises:
            DeniedError: the value is bound to another name or to other rules, or is damaged.
            UnavailableError: it is encrypted for a key that nobody hands over.
        """
        try:
            data = await self._decrypted(file.value)
        except NotFoundError as error:
            raise UnavailableError(
                f"the secret {name} cannot be read: {error.message}, nor any member that answers",
                hint="see: rota secret rotate --help, about lost keys",
            ) from error
        except InputError as error:
            raise DeniedError(
                f"the secret {name} cannot be read: {error.message}",
                known=True,
                hint=f"set it again: rota secret set {name}",
            ) from error
        value, fault = unbind(name, file.rules, data)
        if fault is not None:
            raise DeniedError(
                f"the secret {name} is not given to anybody: its file was changed by hand, and {fault}",
                known=True,
                hint=f"undo the change, or set it again: rota secret set {name}",
            )
        return value

    async def fetch(self) -> bool:
        """Ask other members for identities that this agent lacks; return whether any came."""
        service, before = self._service, self.safe.recipients()
        if service.peers is None:
            return False
        for peer in known(service.world).peers(besides=service.me.name):
            try:
                raw = await service.peers.request(peer, "GET", "/peer/secrets", within_s=PEER_S)
                self.safe.keep(raw.decode("ascii", "replace"))
            except RotaError as error:
                logger.debug("no identities from %s: %s", peer.name, error.message)
                continue
            if service.world.definitions.recipient in self.safe.recipients():
                break
        return self.safe.recipients() != before

    async def share(self, identity: str) -> tuple[list[str], list[str]]:
        """Give an identity to the other members; return who has it now, and who does not answer.

        Raises:
            UnavailableError: there are others that are up, and none of them took it.
        """
        service = self._service
        told: list[str] = []
        untold: list[str] = []
        others = known(service.world).peers(besides=service.me.name)
        agents = service.world.cluster.picture.agents

        async def give(name: str, index: int) -> None:
            assert service.peers is not None
            try:
                await service.peers.request(
                    others[index],
                    "POST",
                    "/peer/secrets",
                    body=identity.encode(),
                    within_s=PEER_S,
                )
            except RotaError as error:
                logger.warning("%s did not take the new key: %s", name, error.message)
                untold.append(name)
            else:
                told.append(name)

        if service.peers is not None:
            await asyncio.gather(*(give(it.name, i) for i, it in enumerate(others)))
        if not told and any(agents[it.name].is_up for it in others if it.name in agents):
            raise UnavailableError(
                "no other member took the new key: were this agent lost, so were all secrets",
                hint="try again when another agent answers: rota agents",
            )
        return sorted(told), sorted(untold)

    def _refuse(self, name: str, rules: Rules, build: Build | None) -> None:
        if build is None:
            return
        why = refusal(rules, build, ancestors(self._service.world, build))
        if why is not None:
            raise DeniedError(f"the secret {name} is not given to {build.ref}: {why}", known=True)

    async def _decrypted(self, text: str) -> bytes:
        try:
            return self.safe.decrypt(text)
        except NotFoundError:
            async with self._fetching:
                await self.fetch()
            return self.safe.decrypt(text)

    async def _provided(self, name: str, path: str, build: Build | None) -> bytes:
        provider = self._service.world.definitions.settings.secrets.provider.get(name)
        if provider is None:
            fault = provider_name_fault(name)
            raise NotFoundError(
                f"no provider of secrets is called {name!r}",
                hint=fault or f"settings.toml: [secrets.provider.{name}] with command = [...]",
            )
        self._refuse(f"{name}:{path}", Rules(provider.jobs, provider.branches), build)
        argv = tuple(part.replace("{path}", path) for part in provider.command)
        if argv == provider.command:
            argv = (*argv, path)
        value = await self._programs.output(argv, within_s=provider.timeout_s)
        value = value.removesuffix(b"\n").removesuffix(b"\r")
        if (fault_ := value_fault(value)) is not None:
            raise UnavailableError(f"the provider {name} gave for {path!r}: {fault_[0]}")
        return value


def ancestors(world: World, build: Build) -> Iterator[Build]:
    """Yield the builds that led to a build: its parents, and the root of its tree."""
    root = world.find(build.root) if build.root != build.id else None
    if root is not None:
        yield root
    parent, depth = build.parent, 0
    while parent and depth < MAX_DEPTH:
        found = world.find(parent)
        if found is None:
            return
        yield found
        parent, depth = found.parent, depth + 1


# -- verbs ----------------------------------------------------------------------------------------


async def secrets(service: Service, request: m.Nothing, who: Principal) -> list[m.SecretView]:
    """List secrets by name, without their values."""
    found = service.world.definitions.secrets
    return [_view(service, name, found[name]) for name in sorted(found)]


async def put(service: Service, request: m.PutSecretRequest, who: Principal) -> m.SecretView:
    """Set a secret's value, or change its rules; what is not said stays as it is."""
    store, name = _store(service), request.secret
    if (bad := secret_name_fault(name)) is not None:
        raise InputError(f"bad secret name {name!r}", hint=bad)
    if request.value is not None and (fault := value_fault(request.value)) is not None:
        raise InputError(fault[0], hint=fault[1])
    for what, globs in (("--jobs", request.jobs), ("--branches", request.branches)):
        if (bad := patterns_fault(globs or ())) is not None:
            raise InputError(f"{what} {bad}")

    async def attempt(base: str) -> m.SecretView | None:
        former = service.world.definitions.secrets.get(name)
        _refuse_twin(service.world, name)
        if former is None and request.value is None:
            raise NotFoundError(
                f"no secret {name!r}", hint=f"give it a value: rota secret set {name}"
            )
        changes, recipient = await _founded(service, store, who)
        file = await _changed(store, request, former, recipient, service, who)
        if former is not None and file == former:
            return _view(service, name, former)
        changes[secret_path(name)] = encode_secret(file)
        verb = "add" if former is None else "change"
        if await commit(service, base, changes, f"{verb} secret {name}", who):
            return replace(_view(service, name, file), changed=True)
        return None

    return await until_first(service, attempt)


async def _changed(
    store: StoreSecrets,
    request: m.PutSecretRequest,
    former: SecretFile | None,
    recipient: str,
    service: Service,
    who: Principal,
) -> SecretFile:
    """Return a secret's file as the request wants it."""
    now = former or SecretFile(value="")
    rules = Rules(
        tuple(request.jobs) if request.jobs is not None else now.rules.jobs,
        tuple(request.branches) if request.branches is not None else now.rules.branches,
    )
    description = request.description if request.description is not None else now.description
    file = replace(now, rules=rules, description=description)
    value = request.value
    if value is None and former is not None:
        if rules == former.rules:
            return file
        value = await store.open(request.secret, former)
    else:
        file = replace(file, by=who.name, at=service.clock.now())
    assert value is not None
    return replace(file, value=_encrypted(store, bind(request.secret, rules, value), recipient))


async def rm(service: Service, request: m.RemoveSecretRequest, who: Principal) -> m.SecretView:
    """Remove a secret."""
    name = request.secret

    async def attempt(base: str) -> m.SecretView | None:
        found = service.world.definitions.secrets.get(name)
        if found is None:
            raise NotFoundError(f"no secret {name!r}", hint="see which there are: rota secret")
        view = _view(service, name, found)
        if view.used_by and not request.force:
            raise ConflictError(
                f"{name} was not removed: {_few(view.used_by)} would fail without it",
                hint="take it out there first; or say --force",
            )
        if await commit(service, base, {secret_path(name): None}, f"remove secret {name}", who):
            return replace(view, changed=True)
        return None

    return await until_first(service, attempt)


async def rotate(service: Service, request: m.RotateSecretsRequest, who: Principal) -> m.Rotated:
    """Encrypt all secrets for a new key, which members alone get."""
    store, safe = _store(service), _safe(service)
    identity = safe.make()
    shared: tuple[list[str], list[str]] | None = None

    async def attempt(base: str) -> m.Rotated | None:
        nonlocal shared
        files = service.world.definitions.secrets
        values, lost = await _opened(store, files)
        if lost and not request.drop_lost:
            raise ConflictError(
                f"{_few(lost)} cannot be read by any member that answers",
                hint="start an agent that has the key, or put its tls/secrets.key back;"
                " if it is lost for ever: rota secret rotate --drop-lost",
            )
        if shared is None:
            shared = await store.share(identity)
        [recipient] = safe.keep(identity)
        changes: dict[str, bytes | None] = {secret_path(name): None for name in lost}
        changes[RECIPIENTS] = encode_recipient(recipient, who.name, service.clock.now())
        for name, value in values.items():
            sealed = _encrypted(store, bind(name, files[name].rules, value), recipient)
            changes[secret_path(name)] = encode_secret(replace(files[name], value=sealed))
        if await commit(service, base, changes, "encrypt secrets for a new key", who):
            return m.Rotated(
                recipient=recipient,
                secrets=tuple(_view(service, name, files[name]) for name in sorted(values)),
                lost=tuple(sorted(lost)),
                told=tuple(shared[0]),
                untold=tuple(shared[1]),
            )
        return None

    return await until_first(service, attempt)


async def check(
    service: Service, request: m.CheckSecretsRequest, who: Principal
) -> list[m.GivenView]:
    """Say which secrets a job would be given, and why not."""
    definition = find_definition(service.world, request.job)
    return [
        m.GivenView(
            name=use.ref,
            env=use.env,
            file=use.file,
            optional=use.optional,
            why_not=await _why_not(service, use, definition.job.name, request.branch) or "",
        )
        for use in definition.job.spec.secrets
    ]


async def _why_not(service: Service, use: SecretUse, job: str, branch: str) -> str | None:
    definitions = service.world.definitions
    rules: Rules
    if use.provider:
        provider = definitions.settings.secrets.provider.get(use.provider)
        if provider is None:
            return f"no provider of secrets is called {use.provider!r}"
        rules = Rules(provider.jobs, provider.branches)
    elif (file := definitions.secrets.get(use.name)) is None:
        return f"no secret is called {use.name!r}"
    else:
        rules = file.rules
        try:
            await _store(service).open(use.name, file)
        except RotaError as error:
            return error.message
    if (why := job_refusal(rules, job)) is not None:
        return why
    return source_refusal(rules, Source(url="", commit="", branch=branch) if branch else None)


# -- what they have in common ---------------------------------------------------------------------


async def _founded(
    service: Service, store: StoreSecrets, who: Principal
) -> tuple[dict[str, bytes | None], str]:
    """Return the public key to encrypt for, and the file to commit with it if it is the first.

    Raises:
        UnavailableError: nobody who answers has the key that belongs to it.
    """
    safe, recipient = _safe(service), service.world.definitions.recipient
    if not recipient:
        if not safe.recipients():
            safe.keep(safe.make())
        await store.share(safe.identities())
        recipient = safe.recipients()[0]
        file = encode_recipient(recipient, who.name, service.clock.now())
        return {RECIPIENTS: file}, recipient
    if recipient not in safe.recipients() and not (
        await store.fetch() and recipient in safe.recipients()
    ):
        raise UnavailableError(
            f"nobody who answers has the key of secrets/recipients.txt ({recipient[:12]}…)",
            hint="start an agent that has it; or encrypt for a new one: rota secret rotate",
        )
    return {}, recipient


async def _opened(
    store: StoreSecrets, files: Mapping[str, SecretFile]
) -> tuple[dict[str, bytes], list[str]]:
    """Return the values by name, and the names of those that nobody who answers can read."""
    values: dict[str, bytes] = {}
    lost = []
    for name, file in files.items():
        try:
            values[name] = await store.open(name, file)
        except RotaError as error:
            logger.warning("%s", error.message)
            lost.append(name)
    return values, lost


def _refuse_twin(world: World, name: str) -> None:
    """Refuse a name that only case tells from another one's: half of all disks hold no such two."""
    for other in world.definitions.secrets:
        if other != name and other.casefold() == name.casefold():
            raise ConflictError(f"there is a secret {other}, which differs only in case")


def _encrypted(store: StoreSecrets, data: bytes, recipient: str) -> str:
    return store.safe.encrypt(data, recipient)


def _view(service: Service, name: str, file: SecretFile) -> m.SecretView:
    return m.SecretView(
        name=name,
        description=file.description,
        jobs=file.rules.jobs,
        branches=file.rules.branches,
        by=file.by,
        at=file.at,
        used_by=tuple(sorted(users(service.world.definitions, name))),
    )


def users(definitions: Definitions, name: str) -> Iterator[str]:
    """Yield the jobs that ask for a secret."""
    for job, definition in definitions.jobs.items():
        spec = definition.job.spec
        named = {use.ref for use in spec.secrets} | {service.auth for service in spec.services}
        if name in named or (spec.container is not None and spec.container.auth == name):
            yield job


def _few(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _store(service: Service) -> StoreSecrets:
    if isinstance(service.secrets, StoreSecrets):
        return service.secrets
    raise UnavailableError("this agent keeps no secrets")


def _safe(service: Service) -> Safe:
    return _store(service).safe
