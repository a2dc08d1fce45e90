"""All code on the pages for readers is run by a test, or checked here by what will read it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.harness import pages
from tests.harness.pages import Block

from rota.chat.phrase import phrased
from rota.cli.line import steps
from rota.cli.mouth import found, leading
from rota.cli.parser import command_parser
from rota.cli.table import COMMANDS, Mouth
from rota.core import header, settings
from rota.core.agent_file import parse_agent_file
from rota.core.definition_file import is_definition, parse_file
from rota.core.header import parse_header
from rota.core.levels import LEVEL
from rota.errors import RotaError
from rota.service.doctor import member, whole
from rota.service.verbs import VERBS

BLOCKS = [
    block
    for page in pages.pages()
    for block in pages.blocks(str(page.relative_to(pages.ROOT)), page.read_text())
]
PROMPT = re.compile(r"(?:[a-z]\w*)?\$ +(.*)")
ROOM = re.compile(r"<(\w+)>([ │└├─]*)(?:!|rota[:,] )(.*)")
#: What there is in rooms alone; the other words there are the table's.
ROOM_ALONE = {"follow", "unfollow", "link"}
SAMPLE = re.compile(r"`(rota(?: [^`]*)?)`")
VALUE = re.compile(r"^[A-Z]+$|…")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_what_it_says(block: Block) -> None:
    if not block.unchecked and block.page not in pages.RUN:
        faults = list(faults_of(block))
        assert not faults, f"{block}:\n" + "\n".join(faults)


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_commands_in_a_sentence_are_there(page: Path) -> None:
    left = pages.FENCE.sub("", page.read_text())
    names = {command.name for command in COMMANDS} | {"help", "--version", "--help"}
    words = [sample.split() for sample in SAMPLE.findall(left)]
    unknown = [
        w for w in words if len(w) > 1 and not VALUE.search(w[1]) and w[1].strip(",") not in names
    ]
    assert not unknown


def test_what_is_wrong_is_found() -> None:
    """The checks below can fail."""
    wrong = {
        "console": "$ rota rum web/test\n",
        "indented": "rota run web/test --folow\n",
        "sh": "# /// script\n# [tool.rota]\n# timout = '1m'\n# ///\n",
        "bash": "if true; then\n",
        "toml": "[loges]\nkeep = 3\n",
        "json": "{,}",
        "yaml": "a: [",
        "python": "def",
        "": "anything",
        "rust": "fn main() {}",
        "text": "",
    }
    for info, text in wrong.items():
        assert list(faults_of(Block("page.md", 1, info, text))), info
    curl = "curl -X PUT http://rota/v1/bilds\n"
    assert list(faults_of(Block("page.md", 1, "sh", curl))) == ["no verb is PUT /v1/bilds"]


def test_the_commands_of_a_text_are_found() -> None:
    text = "X=1 rota run 'a b'#7 >out 2>&1 && (rota ps | grep x#1) # rota no\ncat <<E\nrota no\nE\nrota log\n"
    assert list(pages.commands(text)) == [
        ["rota", "run", "a b#7"],
        ["rota", "ps"],
        ["grep", "x#1"],
        ["cat"],
        ["rota", "log"],
    ]


def test_every_key_and_command_is_shown_on_some_page() -> None:
    text = "\n".join(page.read_text() for page in pages.pages())
    code = "\n".join([*(it.text for it in BLOCKS), *re.findall(r"`[^`\n]+`", text)])
    words = set(re.findall(r"[\w-]+", code))
    keys = {it for it in (*header._JOB, *settings._SETTINGS) if it not in words}
    assert keys == set(), f"show these keys in a block of code on a page of docs/: {keys}"
    commands = {it.name for it in COMMANDS if not it.is_hidden and it.name not in words}
    assert commands == set(), f"show these commands on a page: {commands}"


def test_the_pages_on_checks_and_levels_have_a_row_for_each() -> None:
    doctor = (pages.ROOT / "docs" / "doctor.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", doctor, re.MULTILINE)
    checks = [it.name for it in (*member.CHECKS, *whole.CHECKS)]
    assert sorted(rows) == sorted(set(checks)), "docs/doctor.md has a row for each check"
    assert set(re.findall(r"(\d+) checks on", doctor)) == {str(len(set(checks)))}
    upgrade = (pages.ROOT / "docs" / "upgrade.md").read_text()
    levels = re.findall(r"^\| (\d+) \|", upgrade, re.MULTILINE)
    assert levels == [str(it + 1) for it in range(LEVEL)]


def faults_of(block: Block) -> Iterator[str]:
    check = CHECKS.get(block.language)
    if check is None:
        known = ", ".join(sorted(CHECKS))
        yield f"a block of no kind that is checked; give it one of {known}, or above it: <!-- not checked: why -->"
    else:
        yield from check(block)


def console(block: Block) -> Iterator[str]:
    lines = block.text.splitlines()
    typed = [match[1] for line in lines if (match := PROMPT.match(line))]
    prompt = [line.partition("rota> ")[2] for line in lines if line.startswith("rota> ")]
    said = [match for line in lines if (match := ROOM.match(line)) and match[1] != "rota"]
    if not (typed or prompt or said):
        yield "nothing is typed in it: a line begins with $, rota> or <NAME>; output alone is text"
    for line in typed:
        yield from shell("bash", line)
    for line in [it for it in prompt if it != "▏"]:
        for step in steps(line):
            yield from refused(list(step.words), Mouth.REPL)
    for match in said:
        words, thread = match[3].split(), "x#1" if "└" in match[2] else ""
        if words[0] not in ROOM_ALONE:
            phrase = phrased(words, build=thread, is_build=lambda _: False, prefix="!")
            yield from refused(phrase, Mouth.CHAT)


def indented(block: Block) -> Iterator[str]:
    if re.search(r"^(\w*\$|rota>|<\w+>) ", block.text, re.MULTILINE):
        yield from console(block)
    else:
        yield from shell("bash", block.text)
        programs = [words[0] for words in pages.commands(block.text)]
        yield from (
            f"{it}: no program; output is ```text"
            for it in programs
            if it != "rota" and not shutil.which(it)
        )


def script(block: Block) -> Iterator[str]:
    if "# /// script" in block.text:
        _, problems = parse_header(block.text, name="x", path="jobs/x")
        yield from (str(it) for it in problems)
    yield from shell("sh" if block.language == "sh" else "bash", block.text)


def shell(program: str, text: str) -> Iterator[str]:
    text = text.replace("…", "x")
    done = subprocess.run([program, "-n"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"{text}: {done.stderr}"
    for words in pages.commands(text):
        if words[0] == "rota":
            yield from refused(words[1:], Mouth.SHELL)
        elif words[0] == "curl":
            yield from unrouted(words)


def refused(words: list[str], mouth: Mouth) -> Iterator[str]:
    """Yield what the command line would say against a command before it asks anybody."""
    try:
        _, rest = leading(words, mouth)
        if rest and rest[0] not in ("help", "--help", "exit", "quit"):
            command = found(rest[0], mouth)
            if not {"--help", "-h"} & set(rest):
                parser = command_parser(command, mouth)
                parse = parser.parse_args if command.has_rest else parser.parse_intermixed_args
                parse(rest[1:])
    except RotaError as error:
        yield f"rota {' '.join(words)}: {error}"


def unrouted(words: list[str]) -> Iterator[str]:
    """Yield what of a call of curl is in no route."""
    paths = [m[1] for word in words if (m := re.match(r"https?://[^/]+(/v1/[^?]*)", word))]
    has_body = any(it.startswith(("-d", "--data")) for it in words)
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if has_body else "GET"
    for path in paths:
        routes = {re.sub(r"\{\w+\}", "[^?]+", verb.path) for verb in VERBS if verb.method == method}
        if not any(re.fullmatch(route.replace(".", r"\."), path) for route in routes):
            yield f"no verb is {method} {path}"


def toml(block: Block) -> Iterator[str]:
    """Yield what each reader says, unless one of them takes the block.

    A first line ``# users/ann.toml`` says which. Lines that say one key in several ways are read one by one.
    """
    named = re.match(r"# (\S*?)([a-z-]+/)?([\w.-]+\.toml)\b", block.text)
    try:
        tomllib.loads(block.text)
        texts = [block.text]
    except tomllib.TOMLDecodeError as error:
        texts = block.text.splitlines(keepends=True)
        if "overwrite" not in str(error) and "twice" not in str(error):
            yield str(error)
            return
    for text in texts:
        path = f"{named[2] or ''}{named[3]}" if named else ""
        readers = [path] if path else ["settings.toml", "header", "agent.toml", "users/ann.toml"]
        said = {it: read(it, text) for it in readers}
        if all(said.values()):
            yield from (f"as {it}: {'; '.join(faults)}" for it, faults in said.items())


def read(path: str, text: str) -> list[str]:
    if path == "agent.toml":
        return [str(it) for it in parse_agent_file(text)[1]]
    if path == "header":
        own = re.sub(r"^\[(?!tool\.)(\[?)", r"[\1tool.rota.", text, flags=re.MULTILINE)
        start = "" if own.startswith("[tool") else "[tool.rota]\n"
        lines = "".join(f"# {line}\n" for line in (start + own).splitlines())
        return [
            str(it) for it in parse_header(f"# /// script\n{lines}# ///\n", name="x", path="x")[1]
        ]
    if not is_definition(path):
        return [f"{path} is no file that rota reads"]
    return [str(it) for it in parse_file(path, "", text.encode()).problems]


def parsed(reader: Callable[[str], object]) -> Callable[[Block], Iterator[str]]:
    def check(block: Block) -> Iterator[str]:
        try:
            reader(block.text)
        except (ValueError, SyntaxError, yaml.YAMLError) as error:
            yield str(error)

    return check


def json_or_lines(text: str) -> object:
    return json.loads("[" + re.sub(r"\}\n(?=\{)", "},", text) + "]")


def text(block: Block) -> Iterator[str]:
    if not block.text.strip():
        yield "nothing stands in it"


CHECKS: dict[str, Callable[[Block], Iterator[str]]] = {
    "console": console,
    "indented": indented,
    "sh": script,
    "bash": script,
    "toml": toml,
    "json": parsed(json_or_lines),
    "yaml": parsed(yaml.safe_load),
    "python": parsed(ast.parse),
    "text": text,  # output, or a drawing: nothing that is typed or read
}
