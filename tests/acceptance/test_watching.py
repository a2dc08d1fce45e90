"""The cluster live: ``rota top`` in a terminal, and the page of ``examples/ui`` in a browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import ROTA, Daemon, wait_until
from tests.harness.terminal import Terminal

PAGE = Path(__file__).parents[2] / "examples" / "ui" / "index.html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LONG = """\
# /// script
# [tool.rota]
# labels = "agent=b"
# stdin = true
# ///
printf '\\033[31mbegun\\033[0m <img src=x onerror="window.evil=1">\\n'
while read -r line; do echo "heard $line"; done
"""


class Pair:
    """Agents ``a`` and ``b`` of one cluster; what runs runs on ``b``."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.a, self.b = (Daemon(folder / name, "--name", name) for name in "ab")
        self._folder, self._origin = folder, origin

    def form(self) -> None:
        said = self.a.ok("agent", "--name", "a", "--slots", "2", "--daemon", "--invite")
        self.b.ok("join", said.split()[-1], "--name", "b", "--slots", "2")
        clone = self._folder / "clone"
        self.a.ok("clone", str(clone))
        (clone / "settings.toml").write_text(f'[rest]\norigins = ["{self._origin}"]\n')
        (clone / "jobs" / "web").mkdir(parents=True, exist_ok=True)
        (clone / "jobs" / "web" / "long").write_text(f"#!/bin/sh\n{LONG}")
        (clone / "jobs" / "web" / "bad").write_text("#!/bin/sh\nexit 3\n")
        for job in ("long", "bad"):
            (clone / "jobs" / "web" / job).chmod(0o755)
        env = {**os.environ, "PATH": f"{ROTA.parent}:{os.environ['PATH']}"}
        for words in (("add", "-A"), ("commit", "-qm", "x"), ("push", "-q")):
            who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
            subprocess.run(
                ["git", "-C", str(clone), *who, *words], check=True, env=env, capture_output=True
            )

    def end(self) -> None:
        self.b.end()
        self.a.end()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The page's folder, served as ``python -m http.server`` does."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(PAGE.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("pair"), site)
    try:
        pair.form()
        yield pair
    finally:
        pair.end()


# -- rota top -----------------------------------------------------------------------------------


@pytest.mark.nats
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_top_in_a_terminal_of_a_person(pair: Pair, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ROTA_DATA": str(pair.a.data)}
    with Terminal(tmp_path, env) as terminal:
        terminal.line(f"{ROTA} top; echo status $?")
        terminal.until("2 up")
        assert terminal.is_taken()
        build = pair.b.json("run", "web/long")
        assert pair.b.run("run", "web/bad", "--wait").returncode == 1
        screen = terminal.until("web/bad#1")
        assert "web/long#1" in screen
        # Its log, in place, as it grows; what drives a terminal is left out.
        terminal.type("Down", "Enter")
        terminal.until('begun <img src=x onerror="window.evil=1">')
        pair.b.ok("send", build["id"], "there")
        terminal.until("heard there")
        # The agent that it asks dies: it says so, and goes on at the other.
        pair.a.kill()
        pair.b.ok("send", build["id"], "still")
        screen = terminal.until("heard still")
        terminal.type("Escape")
        terminal.until("AGENTS")
        # Stopped and taken up again, made smaller: the terminal is whole each time.
        terminal.type("C-z")
        terminal.until("Stopped")
        assert not terminal.is_taken()
        terminal.line("fg")
        terminal.until("AGENTS")
        terminal.resize(50, 12)
        terminal.until("c cancel")
        assert all(len(line) <= 50 for line in terminal.screen.splitlines())
        # Cancelled from there, after a question.
        terminal.type("c")
        terminal.until("cancel web/long#1? y or n")
        terminal.type("y")
        pair.b.until("web/long#1", "finished")
        terminal.type("q")
        wait_until("the screen is the shell's again", lambda: not terminal.is_taken())
        pair.a.start()
        # Whatever ends it, the terminal is put back.
        for number in (signal.SIGTERM, signal.SIGINT):
            terminal.line(f"{ROTA} top; echo status $?")
            wait_until("it has the screen", terminal.is_taken)
            terminal.until("AGENTS")
            for pid in terminal.pids():
                os.kill(pid, number)
            terminal.until(f"status {128 + number}")
            assert not terminal.is_taken()


# -- the page -----------------------------------------------------------------------------------


def test_the_page_s_policy_knows_its_own_script_and_style_and_nothing_else() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy, (
            f"write the new hash into the policy: {digest}"
        )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # Texts of others are never read as HTML, and nothing is fetched from elsewhere.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|localStorage", page
    )
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert len(page.splitlines()) <= 400


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        # Containers forbid what its own sandbox needs.
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.nats
def test_the_page_in_a_browser(pair: Pair, site: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text) if "Content Security" in said.text else None,
    )
    page.set_default_timeout(30_000)
    at = f"{site}/?at={pair.a.json('status')['url']}"
    token = (pair.a.data / "token").read_text().strip()
    # Of an origin that the settings do not name it cannot read, and says what may be missing.
    page.goto(at.replace("127.0.0.1", "localhost", 1))
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="lets no page of http://localhost:").wait_for()
    page.goto(at)
    # A wrong token is said, and another may be typed.
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("alert").filter(has_text="the token is not known here").wait_for()
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="a answers").wait_for()
    # A build begins: it is seen without anybody asking, and its log as it grows.
    build = pair.b.json("run", "web/long")
    running = page.get_by_role("region", name="Running")
    button = running.get_by_role("button", name=f"web/long#{build['number']}")
    button.focus()
    page.keyboard.press("Enter")
    log = page.get_by_role("log")
    log.filter(has_text='begun <img src=x onerror="window.evil=1">').wait_for()
    pair.b.ok("send", build["id"], "one")
    log.filter(has_text="heard one").wait_for()
    # The agent that it asks dies: log, events and numbers go on at the other, without a gap.
    pair.a.kill()
    pair.b.ok("send", build["id"], "two")
    log.filter(has_text="heard two").wait_for()
    page.get_by_role("status").filter(has_text="b answers").wait_for()
    number = pair.b.json("run", "web/bad")["number"]
    recent = page.get_by_role("region", name="Recent builds")
    recent.get_by_role("button", name=f"web/bad#{number}").wait_for()
    pair.b.ok("send", build["id"], "--eof")
    recent.get_by_role("button", name=f"web/long#{build['number']}").wait_for()
    assert log.inner_text().splitlines() == [
        'begun <img src=x onerror="window.evil=1">', "heard one", "heard two",
    ]  # fmt: skip
    # A job's trend.
    recent.get_by_role("button", name=f"web/bad#{number}").click()
    page.get_by_text(re.compile(r"0 of \d passed.*broken since web/bad#1")).wait_for()
    assert page.evaluate("window.evil") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("localStorage.length") == 0
    # A link to somewhere else is not given the token; where it was typed it is known.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/?at=http://127.0.0.1:1")
    assert page.get_by_label("Token").input_value() == ""
    assert [url for url in asked if ":1/" in url] == []
    page.goto(at)
    assert page.get_by_label("Token").input_value() == token
    assert faults == []
    pair.a.start()
