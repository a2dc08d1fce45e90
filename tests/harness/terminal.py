"""A terminal of a person: a program in tmux, keys typed to it, and what is seen on its screen."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.harness.daemon import wait_until


class Terminal:
    """A shell in a window of its own server of tmux, which ends with the context."""

    def __init__(
        self, folder: Path, env: Mapping[str, str], *, width: int = 80, height: int = 24
    ) -> None:
        self._socket = str(folder / "tmux")
        self._env = {**env, "LANG": "C.UTF-8", "PS1": "$ ", "ENV": "", "HISTFILE": ""}
        self._size = (width, height)

    def __enter__(self) -> Terminal:
        width, height = map(str, self._size)
        # -f: nobody's own settings.
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, "bash --norc")
        self._tmux("set", "status", "off")
        self._tmux("resize-window", "-x", width, "-y", height)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._tmux("kill-server")

    def type(self, *keys: str) -> None:
        """Type keys, by tmux's names: ``Enter``, ``C-z``, or a character."""
        self._tmux("send-keys", *keys)

    def run(self, *words: str) -> None:
        """Type a command and Enter."""
        self._tmux("send-keys", "-l", shlex.join(words))
        self.type("Enter")

    def line(self, text: str) -> None:
        """Type a line as it is, and Enter."""
        self._tmux("send-keys", "-l", text)
        self.type("Enter")

    @property
    def screen(self) -> str:
        """What is seen."""
        return self._tmux("capture-pane", "-p")

    def is_taken(self) -> bool:
        """Whether a program has the whole screen."""
        return self._tmux("display", "-p", "#{alternate_on}").strip() == "1"

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def until(self, text: str) -> str:
        """Return what is seen, once ``text`` is there."""

        def look() -> str:
            screen = self.screen
            return screen if text in screen else ""

        try:
            return wait_until(f"{text!r} is seen", look)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen}") from None

    def pids(self) -> Sequence[int]:
        """Return the processes of the shell's children."""
        shell = self._tmux("display", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words],
            env=self._env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
