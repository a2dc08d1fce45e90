"""Amazon EC2, and what speaks like it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from rota.adapters.clouds.threads import REQUEST_S, Threads
from rota.core.clouds import Node
from rota.core.problem import nearest
from rota.core.settings_clouds import Cloud
from rota.errors import InputError
from rota.ports.clouds import Order

DEFAULT_REGION = "us-east-1"
CLUSTER, MACHINE = "rota-cluster", "rota-machine"
GOING = ("shutting-down", "terminated")


class Ec2:
    """See :class:`rota.ports.clouds.Provider`. Tags are part of the call that launches."""

    def __init__(self, cloud: Cloud, threads: Threads) -> None:
        self._cloud, self._threads = cloud, threads
        # Amazon does; what merely speaks like it mostly does not.
        self.knows_tokens = (
            not cloud.endpoint if cloud.client_tokens is None else cloud.client_tokens
        )

    @classmethod
    async def open(cls, name: str, cloud: Cloud, key: str, secret: str) -> Ec2:
        """Return a cloud's EC2.

        Raises:
            InputError: there is no such region, or an option is unknown.
        """
        from libcloud.compute.drivers.ec2 import EC2NodeDriver

        region = cloud.region or DEFAULT_REGION
        if region not in EC2NodeDriver.list_regions():
            raise InputError(
                f"cloud {name}: there is no region {region!r}",
                hint=nearest(region, EC2NodeDriver.list_regions()) or "such as eu-central-1",
            )

        def make() -> Any:
            return EC2NodeDriver(key, secret, region=region, timeout=REQUEST_S, **_options(cloud))

        threads = Threads(name, make)
        try:
            make()
        except (TypeError, ValueError) as error:
            raise InputError(f"cloud {name}: options do not fit: {error}") from error
        return cls(cloud, threads)

    async def launch(self, order: Order) -> str:
        """Launch an instance and return its id."""
        cloud = self._cloud

        def run(driver: Any) -> str:
            from libcloud.compute.base import NodeImage, NodeSize

            size = NodeSize(cloud.size, cloud.size, 0, 0, None, None, driver)
            image = NodeImage(cloud.image, cloud.image, driver)
            arguments = {
                "ex_userdata": order.user_data,
                "ex_clienttoken": order.machine,
                "ex_metadata": {CLUSTER: order.cluster, MACHINE: order.machine},
                "ex_terminate_on_shutdown": True,
                **_placing(cloud),
                **cloud.extra,
            }
            _check(driver.create_node, arguments)
            node = driver.create_node(name=order.machine, size=size, image=image, **arguments)
            return str(node.id)

        return await self._threads.call(run)

    async def nodes(self, cluster: str) -> Sequence[Node]:
        """Return the instances with the cluster's tag, those included that are being ended."""

        def run(driver: Any) -> Sequence[Node]:
            found = driver.list_nodes(ex_filters={f"tag:{CLUSTER}": cluster})
            return [
                Node(
                    id=str(it.id),
                    machine=str((it.extra.get("tags") or {}).get(MACHINE, "")),
                    is_over=it.extra.get("status") in GOING,
                )
                for it in found
            ]

        return await self._threads.call(run)

    async def end(self, node: str) -> None:
        """Terminate an instance."""

        def run(driver: Any) -> None:
            try:
                driver.destroy_node(SimpleNamespace(id=node))
            except Exception as error:
                if "InvalidInstanceID" not in str(error):
                    raise

        await self._threads.call(run)

    async def words(self, node: str) -> str:
        """Return the end of an instance's console."""

        def run(driver: Any) -> str:
            return str(driver.ex_get_console_output(SimpleNamespace(id=node))["output"] or "")

        return await self._threads.call(run)


def _options(cloud: Cloud) -> dict[str, Any]:
    """Return the driver's arguments for another endpoint, and those of the settings."""
    options: dict[str, Any] = {}
    if cloud.endpoint:
        url = urlsplit(cloud.endpoint)
        is_secure = url.scheme == "https"
        options = {
            "host": url.hostname,
            "port": url.port or (443 if is_secure else 80),
            "secure": is_secure,
            "signature_version": "4",
        }
    return {**options, **cloud.options}


def _placing(cloud: Cloud) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if cloud.spot:
        arguments["ex_spot"] = True
    if cloud.spot_price is not None:
        arguments["ex_spot_max_price"] = cloud.spot_price
    if cloud.subnet:
        arguments["ex_subnet"] = SimpleNamespace(id=cloud.subnet)
    if cloud.security_groups:
        # By id within a subnet, by name without one: so EC2 has it, and Libcloud insists.
        name = "ex_security_group_ids" if cloud.subnet else "ex_security_groups"
        arguments[name] = list(cloud.security_groups)
    if cloud.ssh_key:
        arguments["ex_keyname"] = cloud.ssh_key
    return arguments


def _check(function: Any, arguments: dict[str, Any]) -> None:
    """Refuse what the driver would stumble over half-way.

    Raises:
        InputError: it has no such argument.
    """
    import inspect

    known = inspect.signature(function).parameters
    for name in arguments.keys() - known.keys():
        raise InputError(
            f"extra.{name} is nothing that the provider can be told",
            hint=nearest(name, known),
        )
