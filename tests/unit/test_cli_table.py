"""The table of commands against the table of verbs: nothing that REST can do is missing."""

import argparse
import inspect
import re
import shlex
from pathlib import Path

import pytest

from rota.cli.main import build_parser
from rota.cli.mirror import descriptions, wire_source
from rota.cli.mouth import function_of
from rota.cli.parser import command_parser
from rota.cli.table import COMMANDS, GROUPS, field_text, find
from rota.client import wire
from rota.core.rights import Role
from rota.errors import DeniedError
from rota.service.context import Principal
from rota.service.judging import refuse_early
from rota.service.verbs import BY_NAME, VERBS, About, Verb


def test_the_plain_copy_of_the_verbs_is_what_its_generator_writes() -> None:
    text = Path(wire.__file__).read_text(encoding="utf-8")
    assert text == wire_source(), "write it anew: python -m rota.cli.mirror"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_each_verb_is_spoken_by_a_command(verb: str) -> None:
    assert any(verb in command.verbs for command in COMMANDS), (
        f"cli/table.py: a command with {verb!r} among its verbs, or a row of its own"
    )


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_each_field_of_a_verb_is_an_argument_or_filled_by_a_command(verb: str) -> None:
    reached = {
        field
        for command in COMMANDS
        for field in (*command.sets, *(field for arg in command.args for field in arg.fields))
    }
    wanted = {f"{verb}.{field}" for field in BY_NAME[verb].request.__struct_fields__}
    assert wanted <= reached, (
        f"cli/table.py: these are no argument's, and in no command's `sets`: {wanted - reached}"
    )


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_what_refuses_a_verb_says_what_a_person_types(verb: Verb) -> None:
    spoken: list[str] = []
    for words in verb.typed or (verb.name,):
        name, *more = words.split()
        command = find(name)
        assert command is not None, (
            f"{verb.name}: there is no command {words!r}; say in service/verbs.py what is typed"
        )
        spoken += command.verbs
        # An option is one of that command's; a word stands in its help, as it is typed.
        options = {option for arg in command.args for option in arg.names}
        told = " ".join((command.more, *(arg.text for arg in command.args)))
        for word in more:
            known = options if word.startswith("-") else set(re.findall(r"[\w-]+", told))
            assert word in known, words
    assert verb.name in spoken


@pytest.mark.parametrize(
    "verb",
    # Of what is the caller's own, the handler says whose it is.
    [verb for verb in VERBS if verb.about not in (About.ONESELF, About.NOBODY)],
    ids=lambda verb: verb.name,
)
def test_who_may_nothing_is_refused_in_those_words(verb: Verb) -> None:
    words = " or ".join(f"`{words}`" for words in verb.typed or (verb.name,))
    with pytest.raises(DeniedError, match=f"^eve is .*; {words} needs {verb.role.title}$"):
        refuse_early(verb, Principal(name="eve", role=Role.NONE))


def test_commands_fill_no_field_that_no_verb_has() -> None:
    known = {f"{verb.name}.{field}" for verb in VERBS for field in descriptions(verb.request)}
    for command in COMMANDS:
        fields = {*command.sets, *(field for arg in command.args for field in arg.fields)}
        assert fields <= known, command.name
        spoken = {field.partition(".")[0] for field in fields}
        assert spoken <= set(command.verbs), command.name


def test_arguments_without_own_words_take_their_help_from_the_verb() -> None:
    for command in COMMANDS:
        for arg in command.args:
            if not arg.help:
                verb, _, field = arg.fields[0].partition(".")
                assert field_text(arg.fields[0]) == descriptions(BY_NAME[verb].request)[field]
            assert arg.text, (command.name, arg.names)


def test_each_command_has_a_function_a_group_and_an_example() -> None:
    for command in COMMANDS:
        assert len(inspect.signature(function_of(command)).parameters) == 2, command.name
        assert command.summary
        if not command.is_hidden:
            assert command.group in GROUPS
            assert command.examples, command.name


def test_each_example_is_a_good_command_line() -> None:
    for command in COMMANDS:
        for example, _ in command.examples:
            for part in example.replace('"$(', "").replace(')"', "").split("|"):
                words = shlex.split(part.partition(">")[0].partition("<")[0].removeprefix("eval "))
                found = next(it for it in COMMANDS if it.name == words[1])
                parser = command_parser(found)
                parse = parser.parse_args if found.has_rest else parser.parse_intermixed_args
                parse(words[2:])


def test_the_whole_parser_knows_all_commands_but_the_hidden() -> None:
    parser = build_parser()
    subparsers = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    assert set(subparsers.choices) == {it.name for it in COMMANDS if not it.is_hidden}
    for name, sub in subparsers.choices.items():
        is_shown = "examples:\n  rota " in sub.format_help() or name == "completion"
        assert is_shown, f"cli/table.py: {name} has no examples"
