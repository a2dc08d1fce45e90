"""The hooks of the store: a push is checked before it counts, and the agent decides what wins."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import rota

#: Names the descriptor over which the proc-receive hook asks the agent.
ASK = "ROTA_ASK"

_SOURCE = Path(rota.__file__).parent.parent

_PRE_RECEIVE = f"""\
#!/bin/sh
# Written by rota at each start: refuses definitions that have faults.
PYTHONPATH={shlex.quote(str(_SOURCE))} PYTHONDONTWRITEBYTECODE=1 \\
exec {shlex.quote(sys.executable)} -P -s -m rota.adapters.git.hook
"""

_PROC_RECEIVE = f"""\
#!/bin/sh
# Written by rota at each start: main moves when the agent says so.
exec {shlex.quote(sys.executable)} -I -S {shlex.quote(str(Path(__file__).with_name("asking.py")))}
"""


def install(path: Path) -> None:
    """Write the hooks into the repository at ``path`` where they differ from what they should be.

    Raises:
        OSError: they cannot be written.
    """
    folder = path / "hooks"
    folder.mkdir(exist_ok=True)
    for name, text in (("pre-receive", _PRE_RECEIVE), ("proc-receive", _PROC_RECEIVE)):
        file = folder / name
        if not file.is_file() or file.read_text("utf-8", "replace") != text:
            new = file.with_name(name + ".new")
            new.write_text(text)
            new.chmod(0o755)
            new.replace(file)
    # What told the agent of a push once git had moved main.
    (folder / "post-receive").unlink(missing_ok=True)
