"""The harness of container engines itself: an engine starts, runs an image, and ends."""

from tests.harness.engines import Engine


def test_an_engine_runs_an_image_made_here(any_engine: Engine) -> None:
    image = any_engine.busybox()
    made = any_engine.request(
        "POST", "/containers/create", {"Image": image, "Cmd": ["sh", "-c", "exit 3"]}
    )
    any_engine.request("POST", f"/containers/{made['Id']}/start")
    ended = any_engine.request("POST", f"/containers/{made['Id']}/wait")
    assert ended["StatusCode"] == 3
    any_engine.request("DELETE", f"/containers/{made['Id']}?v=1")


def test_an_image_of_packages_has_python(docker_engine: Engine) -> None:
    script = "import ssl, sqlite3, json, sys; sys.exit(4)"
    body = {"Image": docker_engine.python(), "Cmd": ["python3", "-c", script]}
    made = docker_engine.request("POST", "/containers/create", body)
    docker_engine.request("POST", f"/containers/{made['Id']}/start")
    assert docker_engine.request("POST", f"/containers/{made['Id']}/wait")["StatusCode"] == 4
    docker_engine.request("DELETE", f"/containers/{made['Id']}?v=1")
