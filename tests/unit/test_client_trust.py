"""To whom a token goes: to agents of the cluster, and to nobody else."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.certificates import Authority, authority
from tests.harness.fake_agent import BUILD, STATUS, Asked, FakeAgent, Reply, answer, fake_agent
from tests.harness.fake_agent import problem as refusal

from rota.cli.main import main
from rota.client.answer import BrokenError, RefusedError
from rota.client.client import Client
from rota.client.login import Login, cluster_agents, login_path, read_login, save_login
from rota.client.place import Place, elsewhere, parse_place
from rota.client.trust import fetch_ca, fingerprint_of
from rota.errors import DeniedError, InputError

PEER = "https://10.0.0.2:7071"
AGENTS = [{"name": "a1", "peer": "https://10.0.0.1:7071"}, {"name": "a2", "peer": PEER}]


@pytest.fixture(scope="module")
def ours() -> Authority:
    return authority()


@pytest.fixture(scope="module")
def theirs() -> Authority:
    return authority()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ROTA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path: Path, ours: Authority) -> Path:
    """The data folder of an agent of ours, which is not up."""
    data = tmp_path / "data"
    (data / "tls").mkdir(parents=True)
    (data / "tls" / "ca.crt").write_text(ours.pem)
    (data / "token").write_text("sesame\n")
    return data


def good(_: Asked) -> Reply:
    return answer(BUILD)


def naming(*agents: FakeAgent) -> tuple[tuple[str, str], ...]:
    return (("Rota-Agents", " ".join(agent.url for agent in agents)),)


def moved(folder: Path, other: FakeAgent) -> Client:
    """Return a client whose agent, at the folder's socket, named another one and was killed."""
    client = Client.find(data=str(folder), env={})
    reply = answer(BUILD)._replace(headers=naming(other))
    with fake_agent(lambda _: reply, folder / "rota.sock"):
        client.build("x")
    client.patience_s = 0.1
    return client


# -- the rule ------------------------------------------------------------------------------------


def place(url: str, ca: str = "", path: str = "") -> Place:
    return parse_place(url, "x")._replace(token="t", ca=ca)


@pytest.mark.parametrize(
    ("named", "url", "goes"),
    [
        (place("unix:/s", "CA"), "https://10.0.0.2:1", True),
        (place("unix:/s"), "https://10.0.0.2:1", False),
        (place("unix:/s", "CA"), "http://10.0.0.2:1", False),
        (place("unix:/s", "CA"), "http://127.0.0.1:1", False),
        (place("http://127.0.0.1:7"), "http://127.0.0.1:1", True),
        (place("http://127.0.0.1:7"), "http://[::1]:1", True),
        (place("http://127.0.0.1:7"), "http://10.0.0.2:1", False),
        (place("http://127.0.0.1:7"), "http://127.0.0.1.evil.org:1", False),
        (place("http://127.0.0.1:7"), "https://10.0.0.2:1", False),
        (place("http://10.0.0.1:7"), "http://10.0.0.2:1", False),
        (place("http://10.0.0.1:7"), "http://127.0.0.1:1", False),
        (place("http://10.0.0.1:7", "CA"), "https://10.0.0.2:1", True),
        (place("https://ci.example"), "https://10.0.0.2:1", False),
        (place("https://ci.example", "CA"), "https://10.0.0.2:1", True),
        (place("https://ci.example", "CA"), "http://127.0.0.1:1", False),
        (place("unix:/s", "CA"), "unix:/other", False),
        (place("unix:/s", "CA"), "https://user@10.0.0.2:1", False),
    ],
)
def test_a_token_goes_over_tls_to_the_cluster_or_stays_on_this_machine(
    named: Place, url: str, goes: bool
) -> None:
    found = elsewhere(named, url)
    assert (found is not None) == goes
    if found is not None:
        assert found.token == "t"
        assert found.is_pinned == found.tls


# -- over real TLS -------------------------------------------------------------------------------


def test_from_a_socket_a_client_goes_on_over_tls(
    folder: Path, tmp_path: Path, ours: Authority
) -> None:
    with fake_agent(good, tls=ours.server(tmp_path)) as other:
        client = moved(folder, other)
        assert client.build("x") == BUILD
        assert client.place.url == other.url
        assert other.asked[0].headers["authorization"] == "Bearer sesame"


def test_an_agent_of_another_cluster_is_shown_nothing(
    folder: Path, tmp_path: Path, theirs: Authority
) -> None:
    with fake_agent(good, tls=theirs.server(tmp_path)) as stranger:
        client = moved(folder, stranger)
        with pytest.raises(RefusedError, match="No such file or directory"):
            client.build("x")
        assert stranger.asked == []


def test_a_certificate_for_another_host_is_not_believed(
    folder: Path, tmp_path: Path, ours: Authority
) -> None:
    with fake_agent(good, tls=ours.server(tmp_path, "10.0.0.9")) as stranger:
        client = moved(folder, stranger)
        with pytest.raises(RefusedError):
            client.build("x")
        assert stranger.asked == []


def test_a_url_over_tls_needs_a_ca_that_vouches_for_it(tmp_path: Path, ours: Authority) -> None:
    (tmp_path / "ca.crt").write_text(ours.pem)
    with fake_agent(good, tls=ours.server(tmp_path)) as agent:
        env = {"ROTA_TOKEN": "sesame", "XDG_CONFIG_HOME": str(tmp_path)}
        with pytest.raises(RefusedError, match="its certificate is not to be trusted: ") as caught:
            Client.find(agent.url, env=env).build("x")
        assert caught.value.hint == "give the cluster's CA: rota login URL --ca FILE, or $ROTA_CA"
        assert agent.asked == []
        trusting = Client.find(agent.url, env=env | {"ROTA_CA": str(tmp_path / "ca.crt")})
        assert trusting.build("x") == BUILD


def test_a_data_folder_knows_the_peers_of_its_agent(
    folder: Path, tmp_path: Path, ours: Authority
) -> None:
    with fake_agent(good, tls=ours.server(tmp_path)) as other:
        members = {"a1": {"pin": "1"}, "a2": {"pin": "2", "peer": other.url}}
        (folder / "cluster.json").write_text(json.dumps({"seq": 7, "members": members}))
        notes: list[str] = []
        client = Client.find(data=str(folder), env={}, note=notes.append)
        assert client.build("x") == BUILD
        assert notes == [f"rota: unix:{folder}/rota.sock does not answer; going on at {other.url}"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"members": []}', '{"members": {"a": 1}}'])
def test_a_file_of_peers_that_is_broken_is_none(folder: Path, text: str) -> None:
    (folder / "cluster.json").write_text(text)
    assert cluster_agents(str(folder)) == ()
    assert cluster_agents("/nowhere") == ()


def test_over_plain_http_the_ca_is_learnt_before_something_long(
    tmp_path: Path, ours: Authority
) -> None:
    finished = {**BUILD, "log_bytes": 0}
    with fake_agent(lambda _: answer(finished), tls=ours.server(tmp_path)) as other:

        def respond(asked: Asked) -> Reply | None:
            if asked.path == "/v1/cluster":
                return answer({"ca": ours.pem})._replace(headers=naming(other))
            return None

        with fake_agent(respond) as agent:
            client = Client(parse_place(agent.url, "x")._replace(token="t"), patience_s=0.2)
            client.learn()
            assert client.build("x") == finished
            client.learn()
            assert [asked.path for asked in agent.asked] == ["/v1/cluster", "/v1/builds/x"]


# -- login ---------------------------------------------------------------------------------------


def respond(asked: Asked) -> Reply:
    if asked.path == "/peer/ca":
        assert "authorization" not in asked.headers
        return Reply(CA[0].encode())
    if asked.headers.get("authorization") != "Bearer sesame":
        return refusal(401, "the token is not known here")
    if asked.path == "/v1/cluster":
        return answer({"agents": AGENTS, "ca": CA[0]})
    return answer(STATUS)


CA = [""]


@pytest.fixture
def peer(tmp_path: Path, ours: Authority) -> Iterator[FakeAgent]:
    """An agent's listener for peers, which asks for a token."""
    CA[0] = ours.pem
    with fake_agent(respond, tls=ours.server(tmp_path)) as agent:
        yield agent


def logged_in(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("sesame\n"))
    return main(["login", *words])


def test_a_login_with_the_ca_keeps_it_and_the_others(
    peer: FakeAgent, tmp_path: Path, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_text(ours.pem)
    assert logged_in(monkeypatch, peer.url, "--ca", str(tmp_path / "ca.crt")) == 0
    assert read_login(os.environ) == Login(peer.url, "sesame", ours.pem, True, (PEER,))
    assert Client.find().call("status").json() == STATUS


def test_a_login_with_the_fingerprint_believes_what_it_shows(
    peer: FakeAgent, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ours.fingerprint.upper()
    colons = ":".join(text[at : at + 2] for at in range(0, 64, 2))
    assert logged_in(monkeypatch, peer.url, "--fingerprint", colons) == 0
    login = read_login(os.environ)
    assert login is not None
    assert fingerprint_of(login.ca) == ours.fingerprint


def test_a_wrong_fingerprint_is_told_before_the_token_is(
    peer: FakeAgent, ours: Authority, theirs: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["login", peer.url, "--fingerprint", theirs.fingerprint]) == 4
    assert capfd.readouterr().err == (
        f"error: {peer.url} is of another cluster: its CA has the fingerprint {ours.fingerprint}\n\n"
        "hint: nothing was sent to it; is the URL right?\n"
    )
    assert [asked.path for asked in peer.asked] == ["/peer/ca"]


def test_a_login_over_plain_http_learns_the_ca_for_the_others(
    ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    CA[0] = ours.pem
    with fake_agent(respond) as agent:
        assert logged_in(monkeypatch, agent.url) == 0
        assert read_login(os.environ) == Login(agent.url, "sesame", ours.pem, False, (PEER,))


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["https://h", "--ca", "f", "--fingerprint", "0"], "--ca and --fingerprint both say whom to trust", "give one of them"),
        (["http://h", "--ca", "f"], "--ca is for https, and http://h is not", "rota agents has its https URL"),
        (["http://h", "--fingerprint", "f"], "--fingerprint is for https, and http://h is not", "rota agents has its https URL"),
        (["https://h", "--fingerprint", "f0"], "'f0' is no SHA-256", "64 hex digits: openssl x509 -in tls/ca.crt -noout -fingerprint -sha256"),
        (["https://h", "--ca", "/etc/hostname"], "--ca: /etc/hostname holds no certificate", "the CA of a cluster lies in each agent's data folder, in tls/ca.crt"),
    ],
)  # fmt: skip
def test_what_a_login_cannot_trust_is_named(
    capfd: pytest.CaptureFixture[str], words: list[str], error: str, hint: str
) -> None:
    assert main(["login", *words]) == 2
    assert capfd.readouterr().err == f"error: {error}\n\nhint: {hint}\n"


def test_a_ca_that_cannot_be_read_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["login", "https://h", "--ca", "/nope"]) == 2
    assert capfd.readouterr().err == (
        "error: --ca: cannot read the CA in /nope: No such file or directory\n"
    )


def test_what_is_shown_as_a_ca_and_is_none_is_refused(tmp_path: Path, ours: Authority) -> None:
    with (
        fake_agent(lambda _: Reply(b"<html>"), tls=ours.server(tmp_path)) as agent,
        pytest.raises(InputError, match="that is no certificate: "),
    ):
        fetch_ca(parse_place(agent.url, "x"), ours.fingerprint)


def test_nobody_there_to_show_a_ca_is_told(ours: Authority) -> None:
    with fake_agent(good) as agent:
        url = agent.url.replace("http", "https")
    with pytest.raises(RefusedError, match=rf"no agent at {url} \(from x\): Connection refused"):
        fetch_ca(parse_place(url, "x"), ours.fingerprint)


def test_agents_seen_over_tls_are_kept_with_the_login_alone(tmp_path: Path) -> None:
    login = Login("http://saved:1", "t", agents=("https://gone:1",))
    save_login(login, os.environ)
    named = (("Rota-Agents", f"http://127.0.0.1:5 {PEER}"),)
    with fake_agent(lambda _: answer(BUILD)._replace(headers=named)) as agent:
        Client.find(agent.url).build("x")
        assert read_login(os.environ) == login
        save_login(login._replace(url=agent.url), os.environ)
        Client.find().build("x")
        # Who was not named again has left, and is not to be shown a token.
        assert read_login(os.environ) == login._replace(url=agent.url, agents=(PEER,))
    assert Path(login_path(os.environ)).stat().st_mode & 0o777 == 0o600


def test_a_saved_login_finds_another_agent_when_its_own_is_gone(
    peer: FakeAgent, ours: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(good) as gone:
        pass
    save_login(Login(gone.url, "sesame", ours.pem, False, (peer.url,)), os.environ)
    peer.respond = lambda asked: answer([BUILD])
    assert main(["builds"]) == 0
    assert capfd.readouterr().err == (f"rota: {gone.url} does not answer; going on at {peer.url}\n")
    assert main(["status"]) == 3


def test_a_login_that_cannot_be_saved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"XDG_CONFIG_HOME": "/proc/nope"}
    with pytest.raises(InputError, match=r"cannot save the login in /proc/nope/rota/login\.json"):
        save_login(Login("http://x", "t"), env)


def test_denied_is_denied_by_the_agent_that_was_named(tmp_path: Path) -> None:
    with (
        fake_agent(lambda _: refusal(401, "who are you"), tmp_path / "s") as agent,
        pytest.raises(DeniedError, match="who are you"),
    ):
        Client(parse_place(agent.url, "x")).build("x")


@pytest.mark.parametrize("end", [17, 60, 100])
def test_half_a_head_is_no_answer(tmp_path: Path, end: int) -> None:
    half = answer(BUILD)._replace(cut_at=end)
    with fake_agent(lambda _: half, tmp_path / "s") as agent, pytest.raises(BrokenError):
        Client(parse_place(agent.url, "x"), patience_s=0).build("x")
