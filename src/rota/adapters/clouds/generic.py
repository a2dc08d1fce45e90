"""Any other of Libcloud's compute drivers, as far as they are alike.

Nodes are known by their names, which every provider has: ``rota-CLUSTER-MACHINE``. Sizes, images and
places are looked for by id or name. What differs is in the settings: ``options`` and ``extra``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from rota.adapters.clouds.threads import REQUEST_S, Threads
from rota.core.clouds import Node
from rota.core.problem import nearest
from rota.core.settings_clouds import Cloud
from rota.errors import ConflictError, InputError
from rota.ports.clouds import Order

PREFIX = "rota"
#: What drivers call user data.
USER_DATA = ("ex_userdata", "ex_user_data", "ex_customdata", "ex_custom_data", "ex_vm_script")


class Generic:
    """See :class:`rota.ports.clouds.Provider`."""

    knows_tokens = False

    def __init__(self, cloud: Cloud, threads: Threads, user_data: str) -> None:
        self._cloud, self._threads, self._user_data = cloud, threads, user_data

    @classmethod
    async def open(cls, name: str, cloud: Cloud, key: str, secret: str) -> Generic:
        """Return a cloud of any driver.

        Raises:
            InputError: there is no such driver, it takes other arguments, or has no user data.
        """
        from libcloud.common.types import LibcloudError
        from libcloud.compute import providers

        known = sorted(str(it) for it in providers.DRIVERS)
        try:
            driver_class = providers.get_driver(cloud.provider)
        except (AttributeError, ImportError) as error:
            raise InputError(
                f"cloud {name}: there is no provider {cloud.provider!r}",
                hint=nearest(cloud.provider, known) or "see Libcloud's compute drivers",
            ) from error
        given, options = [it for it in (key, secret) if it], _options(cloud, driver_class)

        def make() -> Any:
            try:
                return driver_class(*given, timeout=REQUEST_S, **options)
            except TypeError:  # not all of them can be told how long to wait
                return driver_class(*given, **options)

        try:
            # What a class makes may be of another one, that knows more.
            arguments = inspect.signature(make().create_node).parameters
        except (TypeError, ValueError, LibcloudError) as error:
            raise InputError(f"cloud {name}: key, secret or options do not fit: {error}") from error
        user_data = next((it for it in USER_DATA if it in arguments), "")
        if not user_data and "{user_data}" not in str(cloud.extra):
            raise InputError(
                f"cloud {name}: the driver of {cloud.provider} has no user data, by which a machine"
                " becomes an agent",
                hint="say where it is to go, with {user_data} in extra",
            )
        return cls(cloud, Threads(name, make), user_data)

    async def launch(self, order: Order) -> str:
        """Launch a node and return its id."""
        cloud, user_data = self._cloud, self._user_data

        def run(driver: Any) -> str:
            extra = _filled(cloud.extra, order.user_data)
            arguments = {
                "size": _of(driver.list_sizes(), cloud.size, "size"),
                "image": _image(driver, cloud.image),
                **({user_data: order.user_data} if user_data else {}),
                **extra,
            }
            if cloud.region and "location" in inspect.signature(driver.create_node).parameters:
                arguments["location"] = _of(driver.list_locations(), cloud.region, "region")
            if cloud.spot:
                raise InputError(f"spot = true is not known for {cloud.provider}", hint="see extra")
            _bind(driver.create_node, arguments)
            name = f"{PREFIX}-{order.cluster}-{order.machine}"
            return str(driver.create_node(name=name, **arguments).id)

        return await self._threads.call(run)

    async def nodes(self, cluster: str) -> Sequence[Node]:
        """Return the nodes with the cluster's names."""
        head = f"{PREFIX}-{cluster}-"

        def run(driver: Any) -> Sequence[Node]:
            from libcloud.compute.types import NodeState

            return [
                Node(
                    str(it.id), it.name.removeprefix(head), is_over=it.state == NodeState.TERMINATED
                )
                for it in driver.list_nodes()
                if str(it.name).startswith(head)
            ]

        return await self._threads.call(run)

    async def end(self, node: str) -> None:
        """End a node for good."""

        def run(driver: Any) -> None:
            found = next((it for it in driver.list_nodes() if str(it.id) == node), None)
            if found is not None and not driver.destroy_node(found):
                raise ConflictError(f"the provider did not end {node}")

        await self._threads.call(run)

    async def words(self, node: str) -> str:
        """Return nothing: drivers have no common word for it."""
        return ""


def _options(cloud: Cloud, driver_class: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    taken = inspect.signature(driver_class.__init__).parameters
    is_place = "location" in inspect.signature(driver_class.create_node).parameters
    if cloud.region and "region" in taken and not is_place:
        options["region"] = cloud.region
    if cloud.endpoint:
        url = urlsplit(cloud.endpoint)
        is_secure = url.scheme == "https"
        port = url.port or (443 if is_secure else 80)
        options |= {"host": url.hostname, "port": port, "secure": is_secure}
    return {**options, **cloud.options}


def _filled(extra: Mapping[str, Any], user_data: str) -> dict[str, Any]:
    """Return arguments with the user data where ``{user_data}`` stands, however deep."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{user_data}", user_data)
        if isinstance(value, Mapping):
            return {name: fill(item) for name, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: fill(value) for name, value in extra.items()}


def _image(driver: Any, wanted: str) -> Any:
    try:
        return driver.get_image(wanted)
    except Exception:  # noqa: BLE001 - most drivers do not have it, each in its own way
        return _of(driver.list_images(), wanted, "image")


def _of(things: Iterable[Any], wanted: str, what: str) -> Any:
    """Return the one of that id or name.

    Raises:
        InputError: there is none.
    """
    found = list(things)
    for thing in found:
        if wanted in (str(thing.id), str(thing.name)):
            return thing
    names = [str(it.name) for it in found]
    raise InputError(f"there is no {what} {wanted!r}", hint=nearest(wanted, names))


def _bind(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse what the driver would stumble over half-way.

    Raises:
        InputError: it has no such argument, or misses one.
    """
    try:
        inspect.signature(function).bind(name="", **arguments)
    except TypeError as error:
        raise InputError(f"extra does not fit this provider: {error}") from error
