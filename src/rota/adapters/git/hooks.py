"""The hooks of the store: pushes are checked before they count, and told of after."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import rota

#: Names the file in which the post-receive hook notes what was pushed.
PUSHED = "ROTA_PUSHED"

_SOURCE = Path(rota.__file__).parent.parent

_PRE_RECEIVE = f"""\
#!/bin/sh
# Written by rota at each start: refuses definitions that have faults.
PYTHONPATH={shlex.quote(str(_SOURCE))} PYTHONDONTWRITEBYTECODE=1 \\
exec {shlex.quote(sys.executable)} -P -s -m rota.adapters.git.hook
"""

_POST_RECEIVE = f"""\
#!/bin/sh
# Written by rota at each start: tells the agent that serves the push.
test -z "${PUSHED}" || cat >"${PUSHED}"
"""


def install(path: Path) -> None:
    """Write the hooks into the repository at ``path`` where they differ from what they should be.

    Raises:
        OSError: they cannot be written.
    """
    folder = path / "hooks"
    folder.mkdir(exist_ok=True)
    for name, text in (("pre-receive", _PRE_RECEIVE), ("post-receive", _POST_RECEIVE)):
        file = folder / name
        if not file.is_file() or file.read_text("utf-8", "replace") != text:
            new = file.with_name(name + ".new")
            new.write_text(text)
            new.chmod(0o755)
            new.replace(file)
