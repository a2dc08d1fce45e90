"""One target under atheris, in this process: ``python -m tests.fuzz.one TARGET CORPUS [libFuzzer options]``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rota"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, folder, *options = sys.argv[1:]
    target, corpus = TARGETS[name], Path(folder)
    for index, seed in enumerate(target.seeds):
        (corpus / f"seed-{index}").write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in target.words)
    dictionary.write_text("".join(f'"{word}"\n' for word in quoted))
    if target.words:
        options.append(f"-dict={dictionary}")
    atheris.Setup([sys.argv[0], str(corpus), *options], target.run)
    atheris.Fuzz()


main()
