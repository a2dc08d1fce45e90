"""[cloud.NAME] in settings.toml: what it says, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from rota.core.settings import parse_settings
from rota.core.settings_clouds import Cloud

GOOD = """
[cloud.aws]
provider = "ec2"
image = "ami-1"
size = "t3.medium"
region = "eu-central-1"
labels = ["linux", "arch=x86_64"]
min = 1
max = 3
idle = "5m"
spot = true
spot_price = 0.05
extra = { ex_iamprofile = "build" }
"""


def test_a_cloud_is_read() -> None:
    settings, problems = parse_settings(GOOD)
    assert not problems
    assert settings.cloud["aws"] == Cloud(
        provider="ec2",
        image="ami-1",
        size="t3.medium",
        region="eu-central-1",
        labels={"linux": "", "arch": "x86_64"},
        min=1,
        max=3,
        idle_s=300.0,
        spot=True,
        spot_price=0.05,
        extra={"ex_iamprofile": "build"},
    )


HEAD = '[cloud.aws]\nprovider = "ec2"\nimage = "ami-1"\nsize = "t3"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[cloud.aws]\nprovider = "ec2"\nimage = "a"\n', "1:1: cloud.aws needs size"),
        (HEAD + "min = 9\n", "1:1: cloud.aws has min = 9, and max = 5"),
        (HEAD + 'idle = "soon"\n', "5:8: cloud.aws.idle cannot be read: 'soon' is not a duration"),
        (HEAD + 'labls = ["x"]\n', "5:1: unknown key cloud.aws.labls (did you mean 'labels'?)"),
        (HEAD + 'labels = ["a b"]\n', "cloud.aws.labels has a bad label: 'a b' is neither"),
        (HEAD + "spot_price = 1\n", "cloud.aws has a spot_price, and no spot = true"),
        (HEAD + 'program = "rota"\n', "cloud.aws.program must be absolute, not 'rota'"),
        (HEAD + 'endpoint = "here"\n', "cloud.aws.endpoint must be a URL, not 'here'"),
        (HEAD.replace("cloud.aws", "cloud.A"), "cloud.A is no name of a cloud: 1 to 30 small"),
        (HEAD + 'extra = "x"\n', "cloud.aws.extra must be a table, not a string"),
    ],
)
def test_a_wrong_cloud_is_told_with_its_place(text: str, said: str) -> None:
    _, problems = parse_settings(text)
    assert any(said in str(it) for it in problems), [str(it) for it in problems]
