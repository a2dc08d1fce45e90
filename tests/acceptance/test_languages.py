"""A job is a script in any language."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, daemon

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SCRIPTS = {
    "bash": ("#!/usr/bin/env bash", "#", 'echo "$word in $ROTA_JOB"'),
    "python3": (
        "#!/usr/bin/env python3",
        "#",
        'import os; print(os.environ["word"], "in", os.environ["ROTA_JOB"])',
    ),
    "perl": ("#!/usr/bin/env perl", "#", 'print "$ENV{word} in $ENV{ROTA_JOB}\\n";'),
    "ruby": ("#!/usr/bin/env ruby", "#", 'puts "#{ENV["word"]} in #{ENV["ROTA_JOB"]}"'),
    "node": (
        "#!/usr/bin/env node",
        "//",
        "console.log(process.env.word, 'in', process.env.ROTA_JOB)",
    ),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("languages") / "data") as running:
        yield running


@pytest.mark.parametrize("language", SCRIPTS)
def test_a_script_with_a_header_runs_in(language: str, here: Daemon) -> None:
    folders = ("/usr/local/bin", "/usr/bin", "/bin")
    if not any(Path(folder, language).exists() for folder in folders):
        pytest.skip(f"no {language} on the path that builds have ({shutil.which(language)})")
    shebang, comment, body = SCRIPTS[language]
    header = "\n".join(
        f"{comment} {line}"
        for line in ("/// script", "[tool.rota]", "[tool.rota.params]", 'word = "hello"', "///")
    )
    here.add(language, f"{shebang}\n{header}\n{body}\n")
    here.ok("run", language, "word=good morning", "--wait")
    assert here.ok("log", f"{language}#1") == f"good morning in {language}\n"
