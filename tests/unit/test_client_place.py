"""Where a command looks for its agent, and to whom it gives a token."""

import json
from pathlib import Path

import pytest
from tests.harness.fake_agent import STATUS, answer, fake_agent

from rota.client.client import Client
from rota.client.connection import MAX_SOCKET_PATH, connect_unix
from rota.client.login import login_path, read_login
from rota.client.place import default_data, find_place, parse_place
from rota.errors import InputError, UnavailableError


def login(tmp_path: Path, text: str) -> dict[str, str]:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    path = Path(login_path(env))
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return env


def test_the_first_place_that_is_named_decides(tmp_path: Path) -> None:
    env = login(tmp_path, json.dumps({"url": "http://saved:1", "token": "t"}))
    env |= {"ROTA_SOCKET": "/run/s.sock", "ROTA_URL": "http://env:2", "ROTA_DATA": "/data"}
    assert find_place("http://at:3", None, env).host == "at"
    assert find_place(None, "/given", env).path == "/given/rota.sock"
    assert find_place(None, None, env).path == "/run/s.sock"
    del env["ROTA_SOCKET"]
    assert find_place(None, None, env).host == "env"
    del env["ROTA_URL"]
    assert find_place(None, None, env).host == "saved"
    Path(login_path(env)).unlink()
    assert find_place(None, None, env).path == "/data/rota.sock"
    del env["ROTA_DATA"]
    assert find_place(None, None, env).path == default_data(env) + "/rota.sock"


def test_at_and_data_are_not_both_taken() -> None:
    with pytest.raises(InputError, match="--at and --data name two agents"):
        find_place("http://a", "/d", {})


def test_a_place_is_a_url_a_socket_or_a_folder(tmp_path: Path) -> None:
    assert parse_place("https://ci.example/rota/", "x")._replace(origin="") == (
        "https://ci.example/rota",
        "",
        "",
        "ci.example",
        443,
        True,
        "/rota",
        "",
        "",
        False,
    )
    assert parse_place("http://[::1]:7", "x").host == "::1"
    assert parse_place("unix:/run/a", "x").path == "/run/a"
    assert parse_place("unix:///run/a", "x").path == "/run/a"
    assert parse_place(f"{tmp_path}/any.sock", "x").path == f"{tmp_path}/any.sock"
    assert parse_place(str(tmp_path), "x").path == f"{tmp_path}/rota.sock"


@pytest.mark.parametrize(
    "text", ["ftp://x", "http://", "http://u:p@h", "http://h?a=b", "http://h:x"]
)
def test_what_is_no_address_is_refused_with_its_origin(text: str) -> None:
    with pytest.raises(InputError, match=r"^--at: "):
        parse_place(text, "--at")


def test_a_saved_token_goes_to_its_own_url_alone(tmp_path: Path) -> None:
    env = login(tmp_path, json.dumps({"url": "http://saved:1", "token": "secret"}))
    assert find_place(None, None, env).token == "secret"
    assert find_place("http://saved:1/", None, env).token == "secret"
    assert find_place("http://other:1", None, env).token == ""
    assert find_place("https://saved:1", None, env).token == ""
    assert find_place("http://other:1", None, env | {"ROTA_TOKEN": "given"}).token == "given"
    assert find_place("unix:/x", None, env | {"ROTA_TOKEN": "given"}).token == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"url": "http://a"}'])
def test_a_broken_login_is_named(tmp_path: Path, text: str) -> None:
    env = login(tmp_path, text)
    with pytest.raises(InputError, match=r"cannot read the login in .*login\.json") as caught:
        read_login(env)
    assert caught.value.hint == "make it anew: rota login URL"


def test_a_socket_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    path = folder / "rota.sock"
    assert len(str(path)) > MAX_SOCKET_PATH
    with fake_agent(lambda _: answer(STATUS), path) as agent:
        found = Client(parse_place(agent.url, "x")).call("status").json()
        assert found["agent"] == "a1"
        connect_unix(str(path)).close()
    handles = [
        str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
    ]
    assert str(folder) not in handles


def test_nobody_there_says_where_it_looked_and_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        Client(find_place(None, str(tmp_path), {})).call("status")
    assert caught.value.message == (
        f"no agent at unix:{tmp_path}/rota.sock (from --data): No such file or directory"
    )
    assert caught.value.hint == "start one: rota agent --daemon"
