"""The text of ``users/NAME.toml``, changed where it has to be: comments and layout stay as they are.

A file is changed by statements, whole lines each. Whoever changes one reads the result again and
compares: a layout that is not understood here is no reason to lose anything.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from rota.core.preferences import DEFAULT_ON, Preference
from rota.core.quiet import WEEKDAYS, Quiet
from rota.core.toml_places import Path, Places, Statement, locate
from rota.core.toml_writing import toml_value
from rota.core.users import User

_NEW = 'role = "builder"\n'


def rewritten(text: str | None, before: User, after: User) -> str:
    """Return a user's file that says ``after``, given one that says ``before``; ``None`` is none yet.

    Cost: linear in the text, for each thing that changes.
    """
    page = _Page(_NEW if text is None else text)
    if before.role != after.role:
        page.put(("role",), toml_value(after.role))
    if before.timezone != after.timezone:
        page.put(("timezone",), toml_value(after.timezone) if after.timezone else "")
    page.put_list(("emails",), before.emails, after.emails)
    page.put_list(("logins",), before.logins, after.logins)
    if page.is_inline("chat") and before.chat != after.chat:
        page.put(("chat",), _inline(after.chat))
    else:
        for network in dict.fromkeys([*before.chat, *after.chat]):
            page.put_list(
                ("chat", network), before.chat.get(network, ()), after.chat.get(network, ())
            )
    if before.quiet != after.quiet:
        page.put_table("quiet", _quiet(after.quiet))
    if before.preferences != after.preferences:
        _put_preferences(page, before.preferences, after.preferences)
    return page.text


def _put_preferences(
    page: _Page, before: Sequence[Preference] | None, after: Sequence[Preference] | None
) -> None:
    """Change ``[[notify]]``: what is gone goes, what is new comes last."""
    old, new = list(before or ()), list(after or ())
    is_inline = page.is_inline("notify")
    if not is_inline:
        for index in reversed(_gone(old, new)):
            page.drop_table(("notify", index))
            del old[index]
    if not is_inline and new[: len(old)] == old and new:
        for preference in new[len(old) :]:
            page.append("[[notify]]", _preference(preference))
        return
    if is_inline and new and old:
        page.put(("notify",), f"[{', '.join(_inline(_preference(it)) for it in new)}]")
        return
    for index in reversed(range(len(old) if not is_inline else 0)):
        page.drop_table(("notify", index))
    page.put(("notify",), "[]" if after is not None and not new else "")
    for preference in new:
        page.append("[[notify]]", _preference(preference))


def _gone(old: Sequence[Preference], new: Sequence[Preference]) -> list[int]:
    """Return which of the old ones are not among the new ones, in order."""
    gone, left = [], list(new)
    for index, preference in enumerate(old):
        if preference in left:
            left = left[left.index(preference) + 1 :]
        else:
            gone.append(index)
    return gone


def _preference(preference: Preference) -> dict[str, str]:
    values: dict[str, object] = {}
    if preference.jobs != ("**",):
        values["jobs"] = preference.jobs if len(preference.jobs) > 1 else preference.jobs[0]
    if preference.whose != "mine":
        values["whose"] = preference.whose
    if preference.on != DEFAULT_ON:
        values["on"] = preference.on
    values["to"] = [target.text for target in preference.to]
    return {key: toml_value(value) for key, value in values.items()}


def _quiet(quiet: Quiet) -> dict[str, str]:
    values: dict[str, object] = {}
    if quiet.start != quiet.end:
        values["from"], values["to"] = clock(quiet.start), clock(quiet.end)
    if quiet.days:
        values["days"] = [WEEKDAYS[day] for day in quiet.days]
    return {key: toml_value(value) for key, value in values.items()}


def clock(minute: int) -> str:
    """Return minutes since midnight as a time of day."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _inline(values: Mapping[str, object]) -> str:
    """Return an inline table; of text that is TOML already, or of lists."""
    pairs = (
        f"{key} = {value if isinstance(value, str) else toml_value(value)}"
        for key, value in values.items()
    )
    return f"{{ {', '.join(pairs)} }}" if values else ""


class _Page:
    """Lines of TOML, and what stands where in them."""

    def __init__(self, text: str) -> None:
        self._end = "\r\n" if "\r\n" in text else "\n"
        self._lines = [line.removesuffix("\r") for line in text.split("\n")]
        while self._lines and not self._lines[-1].strip():
            self._lines.pop()

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(line + self._end for line in self._lines)

    # -- look ---------------------------------------------------------------------------------

    def is_inline(self, name: str) -> bool:
        """Whether a table or an array of tables stands as the value of a key, in one statement."""
        found = self._statement((name,))
        return found is not None and not self._is_head(found)

    def _statement(self, path: Path) -> Statement | None:
        """Return the statement that has the value at ``path``, or that is the head of its table."""
        places = self._places()
        value = places.values.get(path)
        if value is None:
            return None
        line = value.place[0]
        return next((it for it in places.statements if it.first <= line <= it.last), None)

    def _places(self) -> Places:
        return locate("\n".join(self._lines) + "\n")

    def _is_head(self, statement: Statement) -> bool:
        return self._lines[statement.first - 1].lstrip().startswith("[")

    def _table(self, path: Path) -> tuple[Statement, Statement] | None:
        """Return the head of a table and its last statement, which may be the head."""
        head = self._statement(path)
        if head is None or not self._is_head(head):
            return None
        last = head
        for it in self._places().statements:
            if it.first > head.first and self._is_head(it):
                break
            if it.first > head.first:
                last = it
        return head, last

    # -- change -------------------------------------------------------------------------------

    def put(self, path: Path, value: str) -> None:
        """Have a key say a value; with an empty one it goes."""
        statement = self._statement(path)
        if statement is not None and not self._is_head(statement):
            self._replace(statement, value)
        elif value:
            self._add(path, value)

    def put_list(self, path: Path, before: Sequence[str], after: Sequence[str]) -> None:
        """Have a key say a list; what stays keeps its line, where each has its own."""
        if before == after:
            return
        statement = self._statement(path)
        lines = list(self._lines)
        if statement is not None and after and statement.last > statement.first:
            self._put_items(statement, before, after)
            if self._says(path, after):
                return
            self._lines = lines
        self.put(path, toml_value(after) if after else "")

    def put_table(self, name: str, values: Mapping[str, str]) -> None:
        """Have a table say these values and no others; without any it goes."""
        if self.is_inline(name):
            self.put((name,), _inline(values))
            return
        if not values or self._table((name,)) is None:
            self.drop_table((name,))
            self._drop_dotted(name)
            if values:
                self.append(f"[{name}]", values)
            return
        for key in self._keys(name):
            if key not in values:
                self.put((name, key), "")
        for key, value in values.items():
            self.put((name, key), value)

    def append(self, head: str, values: Mapping[str, str]) -> None:
        """Add a table at the end."""
        if self._lines:
            self._lines.append("")
        self._lines += [head, *(f"{key} = {value}" for key, value in values.items())]

    def drop_table(self, path: Path) -> None:
        """Take a table out, and what is said of it directly above."""
        found = self._table(path)
        if found is None:
            return
        first, last = found[0].first - 1, found[1].last
        first = self._above(first)
        while first and not self._lines[first - 1].strip():
            first -= 1
        del self._lines[first:last]

    def _drop_dotted(self, name: str) -> None:
        for key in self._keys(name):
            self.put((name, key), "")

    def _keys(self, name: str) -> list[str]:
        return [
            str(path[1]) for path in self._places().values if len(path) == 2 and path[0] == name
        ]

    def _replace(self, statement: Statement, value: str) -> None:
        lines = self._lines[statement.first - 1 : statement.last]
        key, _, rest = lines[0].partition("=")
        remark = _remark(rest) if len(lines) == 1 else ""
        new = [f"{key}= {value}{remark}"] if value else []
        self._lines[statement.first - 1 : statement.last] = new

    def _add(self, path: Path, value: str) -> None:
        key = str(path[-1])
        if len(path) == 1:
            self._insert(self._after_pairs(), f"{key} = {value}")
            return
        table = self._table(path[:1])
        if table is not None:
            self._insert(table[1].last, f"{key} = {value}")
            return
        dotted = [self._statement((path[0], it)) for it in self._keys(str(path[0]))]
        lines = [it.last for it in dotted if it is not None]
        if lines:
            self._insert(max(lines), f"{path[0]}.{key} = {value}")
        else:
            self.append(f"[{path[0]}]", {key: value})

    def _insert(self, at: int, line: str) -> None:
        self._lines.insert(at, line)

    def _after_pairs(self) -> int:
        """Return after how many lines a key of no table can stand."""
        last = 0
        for it in self._places().statements:
            if self._is_head(it):
                break
            last = it.last
        if last:
            return last
        first = next((at for at, line in enumerate(self._lines) if _starts(line)), 0)
        return self._above(first)

    def _above(self, line: int) -> int:
        """Return where the comments begin that stand directly above a line."""
        while line and self._lines[line - 1].lstrip().startswith("#"):
            line -= 1
        return line

    def _put_items(self, statement: Statement, before: Sequence[str], after: Sequence[str]) -> None:
        """Take items out that have a line of their own, and put new ones before the last line."""
        inner = self._lines[statement.first : statement.last - 1]
        gone = [it for it in before if it not in after]
        kept = [line for line in inner if not any(_is_item(line, it) for it in gone)]
        added = [it for it in after if it not in before]
        at = next((n for n in reversed(range(len(kept))) if _starts(kept[n])), None)
        if added and at is not None:
            remark = _remark(kept[at])
            bare = kept[at][: len(kept[at]) - len(remark)].rstrip()
            kept[at] = bare.rstrip(",") + "," + remark
        indent = re.match(r"\s*", kept[at])[0] if at is not None else "  "  # type: ignore[index]
        kept += [f"{indent}{toml_value(it)}," for it in added]
        self._lines[statement.first : statement.last - 1] = kept

    def _says(self, path: Path, wanted: Sequence[str]) -> bool:
        try:
            found: Any = tomllib.loads(self.text)
            for part in path:
                found = found[part]
        except (ValueError, LookupError, TypeError, RecursionError):
            return False
        return bool(found == list(wanted))


def _starts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _is_item(line: str, item: str) -> bool:
    """Whether a line of an array has that item and nothing else but a remark."""
    bare = line[: len(line) - len(_remark(line))].strip().rstrip(",")
    try:
        return bool(tomllib.loads(f"x = {bare}") == {"x": item})
    except ValueError:
        return False


def _remark(rest: str) -> str:
    """Return the comment after a value, with the space before it; empty if there is none."""
    for match in re.finditer(r"\s*#", rest):
        value = rest[: match.start()].strip().rstrip(",")
        try:
            tomllib.loads(f"x = {value}")
        except ValueError:
            continue
        return rest[match.start() :]
    return ""
