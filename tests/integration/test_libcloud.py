"""Libcloud's drivers against an EC2 and a driver in memory: what they do, and what they say."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses
from msgspec.structs import replace
from tests.harness.ec2 import KEYS, REGION, Account, Front, moto

from rota.adapters.clouds import LibcloudProviders
from rota.adapters.clouds.faults import translated
from rota.core.clouds import Node
from rota.core.settings_clouds import Cloud
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    UnavailableError,
)
from rota.ports.clouds import Order, Provider

ORDER = Order(machine="aws-1", cluster="cafe", user_data="#!/bin/sh\necho hello\n")


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def front(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    made = Front(moto_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def account(moto_url: str) -> Account:
    return Account(moto_url)


@pytest.fixture
def cloud(front: Front, account: Account) -> Cloud:
    return Cloud(
        provider="ec2", image=account.image, size="t3.micro", region=REGION, endpoint=front.url
    )


async def no_secrets(name: str) -> bytes:
    raise NotFoundError(f"no secret {name!r}")


async def opened(cloud: Cloud) -> Provider:
    return await LibcloudProviders().open("aws", cloud, no_secrets)


async def test_an_instance_is_launched_with_tags_and_user_data_listed_and_ended(
    cloud: Cloud, account: Account
) -> None:
    ec2 = await opened(cloud)
    order = replace(ORDER, cluster="c1")
    node = await ec2.launch(order)
    assert await ec2.nodes("c1") == [Node(node, "aws-1")]
    assert await ec2.nodes("c2") == []
    assert account.user_data(node) == order.user_data
    tags = {it["Key"]: it["Value"] for it in account.instances()[node]["Tags"]}
    assert tags == {"Name": "aws-1", "rota-cluster": "c1", "rota-machine": "aws-1"}
    assert await ec2.words(node)
    await ec2.end(node)
    await ec2.end(node)
    await ec2.end("i-00000000000000001")
    assert await ec2.nodes("c1") == [Node(node, "aws-1", is_over=True)]


async def test_a_spot_instance_is_asked_for(cloud: Cloud, account: Account, front: Front) -> None:
    ec2 = await opened(replace(cloud, spot=True, spot_price=0.05))
    node = await ec2.launch(ORDER)
    assert account.instances()[node]["InstanceLifecycle"] == "spot"
    fields = next(it.fields for it in front.calls if it.action == "RunInstances")
    assert fields["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.05"


async def test_the_same_token_is_sent_again_and_counts_where_it_is_known(
    cloud: Cloud, front: Front
) -> None:
    ec2 = await opened(cloud)
    assert not ec2.knows_tokens  # who merely speaks like EC2 is not believed to
    assert await ec2.launch(ORDER) != await ec2.launch(ORDER)
    front.knows_tokens = True
    aware = await opened(replace(cloud, client_tokens=True))
    assert aware.knows_tokens
    other = replace(ORDER, machine="aws-2")
    assert await aware.launch(other) == await aware.launch(other)
    assert (await opened(replace(cloud, endpoint=""))).knows_tokens  # Amazon


async def test_a_lost_answer_is_told_from_a_refusal(cloud: Cloud, front: Front) -> None:
    ec2 = await opened(cloud)
    front.fault = lambda action: "lose" if action == "RunInstances" else ""
    with pytest.raises(UnavailableError):
        await ec2.launch(replace(ORDER, cluster="lost"))
    assert len(await ec2.nodes("lost")) == 1  # it was carried out


async def test_no_error_tells_what_was_sent(cloud: Cloud) -> None:
    token = "rota1." + "0" * 64 + "." + "s" * 43 + ".127.0.0.1:1"
    ec2 = await opened(replace(cloud, endpoint="http://127.0.0.1:1"))
    with pytest.raises(UnavailableError) as fault:
        await ec2.launch(replace(ORDER, user_data=token))
    said = fault.value.message
    assert "Connection refused" in said
    assert "UserData" not in said
    assert base64.b64encode(token.encode())[:20].decode() not in said
    with pytest.raises(UnavailableError) as fault, translated("aws"):
        raise ValueError(f"cannot parse <x>{token}</x> as XML")
    assert fault.value.message == "cloud aws: cannot parse … as XML"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InstanceLimitExceeded", ConflictError),
        ("VcpuLimitExceeded", ConflictError),
        ("InsufficientInstanceCapacity", ConflictError),
        ("RequestLimitExceeded", ConflictError),
        ("AuthFailure", DeniedError),
        ("UnauthorizedOperation", DeniedError),
        ("SignatureDoesNotMatch", DeniedError),
        ("InvalidSubnetID.NotFound", InputError),
        ("InvalidKeyPair.NotFound", InputError),
        ("IdempotentParameterMismatch", UnavailableError),
    ],
)
async def test_refusals_are_told_apart_and_nothing_was_launched(
    code: str, kind: type[RotaError], cloud: Cloud, front: Front
) -> None:
    ec2 = await opened(cloud)
    front.fault = lambda _: f"refuse:{code}"
    with pytest.raises(kind) as fault:
        await ec2.launch(ORDER)
    assert type(fault.value) is kind
    if kind is not UnavailableError and "Key" not in code:
        assert fault.value.message == f"cloud aws: {code}: that is how it is"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "ami-nope"}, "The image id '[ami-nope]' does not exist"),
        ({"size": "huge"}, "huge"),
        ({"subnet": "subnet-1"}, "subnet-1"),
        (
            {"region": "eu-centrl-1"},
            "there is no region 'eu-centrl-1' (did you mean 'eu-central-1'",
        ),
        ({"extra": {"ex_keynam": "x"}}, "extra.ex_keynam is nothing that the provider can be told"),
        ({"key": "NO_SUCH_KEY"}, "there is no secret NO_SUCH_KEY, and the agent that leads has no"),
        ({"secret": "/no/such/file"}, "cannot read secret /no/such/file: No such file"),
        ({"provider": "opnstack"}, "there is no provider 'opnstack' (did you mean 'openstack'"),
        (
            {"provider": "dummy", "options": {"creds": "0"}, "endpoint": ""},
            "the driver of dummy has no user data",
        ),
        ({"provider": "dummy"}, "key, secret or options do not fit: "),
    ],
)
async def test_what_is_wrong_in_the_settings_is_told(
    change: dict[str, Any], said: str, cloud: Cloud
) -> None:
    with pytest.raises(InputError) as fault:
        await (await opened(replace(cloud, **change))).launch(ORDER)
    assert said in f"{fault.value.message} ({fault.value.hint})"


async def test_keys_are_secrets_of_the_cluster_first(cloud: Cloud, front: Front) -> None:
    async def read(name: str) -> bytes:
        return {"AWS_ACCESS_KEY_ID": b"AKIASECRET\n"}.get(name, b"x")

    ec2 = await LibcloudProviders().open("aws", cloud, read)
    await ec2.nodes("c")
    assert front.calls
    del ec2


async def test_without_libcloud_one_is_told_what_to_install(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libcloud", None)
    with pytest.raises(InputError) as fault:
        await opened(cloud)
    assert fault.value.message == "cloud aws needs Apache Libcloud, and this agent has it not"
    assert "pip install 'rota[cloud]'" in str(fault.value.hint)


# -- any other driver -----------------------------------------------------------------------------


def named_driver() -> str:
    """Register Libcloud's driver in memory, made to keep names and take user data as others do."""
    from libcloud.compute import providers
    from libcloud.compute.drivers import dummy
    from libcloud.compute.types import NodeState

    nodes: list[Any] = []

    class NamedDriver(dummy.DummyNodeDriver):  # type: ignore[misc]
        def __init__(self, key: str, **_: Any) -> None:
            super().__init__(key)
            self.nl = nodes

        def create_node(
            self, name: str, size: Any, image: Any, location: Any = None, ex_userdata: str = ""
        ) -> Any:
            node = super().create_node(name, size, image)
            node.name = name
            node.extra = {"userdata": ex_userdata, "size": size.name, "place": location.name}
            return node

        def destroy_node(self, node: Any) -> bool:
            node.state = NodeState.TERMINATED
            return True

    module = sys.modules[__name__]
    module.NamedDriver = NamedDriver  # type: ignore[attr-defined]
    providers.set_driver("named", __name__, "NamedDriver") if "named" not in (
        providers.DRIVERS
    ) else None
    return "named"


async def test_nodes_of_any_other_provider_are_known_by_their_names() -> None:
    cloud = Cloud(
        provider=named_driver(),
        image="Ubuntu 9.10",
        size="Small",
        region="Paul's Room",
        key="/dev/null",
        options={"key": "0"},
    )
    provider = await opened(cloud)
    node = await provider.launch(ORDER)
    assert await provider.nodes("cafe") == [Node(node, "aws-1")]
    assert await provider.nodes("beef") == []
    await provider.end(node)
    await provider.end("404")
    assert await provider.nodes("cafe") == [Node(node, "aws-1", is_over=True)]
    assert await provider.words(node) == ""
    for change, said in (
        ({"size": "Smal"}, "there is no size 'Smal'"),
        ({"image": "Debian"}, "there is no image 'Debian'"),
        ({"region": "Mars"}, "there is no region 'Mars'"),
        ({"spot": True}, "spot = true is not known for named"),
        ({"extra": {"x": 1}}, "extra does not fit this provider"),
    ):
        with pytest.raises(InputError) as fault:
            await (await opened(replace(cloud, **change))).launch(ORDER)
        assert said in fault.value.message


class Ocean:
    """DigitalOcean's interface, as far as a machine's life needs it."""

    URL = "https://api.digitalocean.com/v2/"

    def __init__(self) -> None:
        self.droplets: list[dict[str, Any]] = []
        self.refuses: tuple[int, str] | None = None

    def answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        what = urlsplit(request.url).path.removeprefix("/v2/")
        if request.headers["Authorization"] != "Bearer good":
            return 401, {}, json.dumps({"message": "Unable to authenticate you"})
        match request.method, what.split("/"):
            case "POST", ["droplets"]:
                if self.refuses:
                    return self.refuses[0], {}, json.dumps({"message": self.refuses[1]})
                made = json.loads(request.body)
                made |= {"id": len(self.droplets) + 1, "status": "new", "networks": {}}
                made |= {"region": {"slug": made["region"]}, "image": {}, "size": None}
                made |= {"created_at": "2026-01-01T00:00:00Z", "size_slug": "s-1"}
                self.droplets.append(made)
                return 202, {}, json.dumps({"droplet": made})
            case "DELETE", ["droplets", id_]:
                self.droplets = [it for it in self.droplets if str(it["id"]) != id_]
                return 204, {}, ""
            case _, ["droplets"]:
                found: Any = {"droplets": self.droplets}
            case _, ["sizes"]:
                found = {
                    "sizes": [
                        {
                            "slug": "s-1",
                            "memory": 1,
                            "vcpus": 1,
                            "disk": 1,
                            "transfer": 1,
                            "price_monthly": 5,
                            "price_hourly": 0.1,
                            "regions": [],
                        }
                    ]
                }
            case _, ["regions"]:
                found = {"regions": [{"slug": "fra1", "name": "Frankfurt", "available": True}]}
            case _, ["images", id_]:
                found = {
                    "image": {
                        "id": 7,
                        "slug": id_,
                        "name": id_,
                        "distribution": "",
                        "public": True,
                        "regions": [],
                        "min_disk_size": 1,
                        "created_at": "",
                    }
                }
            case _:
                raise AssertionError(what)
        return 200, {}, json.dumps(found | {"links": {}, "meta": {"total": 1}})


async def test_another_real_driver_does_it_all_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    ocean = Ocean()
    monkeypatch.setenv("DO_TOKEN", "good")
    cloud = Cloud(
        provider="digitalocean", image="debian-12", size="s-1", region="fra1", key="DO_TOKEN"
    )
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ("GET", "POST", "DELETE"):
            mock.add_callback(method, re.compile(re.escape(Ocean.URL)), ocean.answer)
        provider = await opened(cloud)
        node = await provider.launch(ORDER)
        (droplet,) = ocean.droplets
        assert droplet["name"] == "rota-cafe-aws-1"
        assert droplet["user_data"] == ORDER.user_data
        assert await provider.nodes("cafe") == [Node(node, "aws-1")]
        ocean.refuses = (422, "creating this/these droplet(s) will exceed your droplet limit")
        with pytest.raises(ConflictError, match="will exceed your droplet limit"):
            await provider.launch(ORDER)
        ocean.refuses = (500, "Server Error")
        with pytest.raises(UnavailableError, match="Server Error"):
            await provider.launch(ORDER)
        await provider.end(node)
        await provider.end(node)
        assert await provider.nodes("cafe") == []
        monkeypatch.setenv("DO_TOKEN", "bad")
        with pytest.raises(DeniedError, match="Unable to authenticate you"):
            await (await opened(cloud)).nodes("cafe")
