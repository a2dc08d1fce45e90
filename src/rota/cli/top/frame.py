"""The picture of ``rota top``: lines of coloured text, made of an overview. Pure.

Every line fits the width that is given, and there are no more than the height: each section gets
its share of the rows, and what one does not need goes to the others, the running builds first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from rota.cli.bars import bar, slots_bar
from rota.cli.render import SIGNS, Cell, Look, ago, cells, clean, cut, duration
from rota.cli.sparkline import sparkline
from rota.cli.top.view import Choice, View

#: So late, an agent that was asked is said to be silent.
SILENT_S = 3.0
RATE_MINUTES = 5
_SPINNER, _PLAIN_SPINNER = "◐◓◑◒", "|/-\\"
_STATES = {"up": "green", "draining": "yellow", "leaving": "yellow", "lost": "red"}
_WAITS = {
    "slot": "waits for a slot",
    "throttle": "waits for a throttle",
    "no agent": "no agent takes it",
}
_KEYS = "q quit  ↑↓ select  enter log  c cancel  / filter  s sort  ? help"
_PLAIN_KEYS = "q quit  j k select  enter log  c cancel  / filter  s sort  ? help"
HELP = (
    ("arrows, j k", "select a build"),
    ("enter", "show the selected build's log, and close it again"),
    ("c", "cancel the selected build; asks first"),
    ("/", "show only builds of jobs that match a glob, or contain a word"),
    ("s", "sort running builds: longest or newest first, by job, by agent"),
    ("escape", "close what is open; then forget selection and filter"),
    ("?", "this"),
    ("q", "quit"),
)

Line = tuple[Cell, ...]


class Seen(NamedTuple):
    """What is known: the last overview, for how long it is, and the lines of a log.

    ``silent_s`` is how long no agent has answered; ``trouble`` what the last one said instead.
    """

    overview: dict[str, Any] | None = None
    age_s: float = 0.0
    silent_s: float = 0.0
    trouble: str = ""
    note: str = ""  # what the client said of where it is
    log: Sequence[str] = ()
    log_of: str = ""
    log_said: str = ""  # how that build is


class Frame(NamedTuple):
    """The lines, and the builds that can be selected in them; ``selected`` is that line's place."""

    lines: list[Line]
    choices: tuple[Choice, ...] = ()
    selected: int | None = None


class _Section(NamedTuple):
    """A heading, its rows, and how many there are in the cluster."""

    title: str
    rows: list[Line]
    total: int
    choices: list[Choice]  # one a row, or none at all


def frame(seen: Seen, view: View, look: Look, width: int, height: int | None) -> Frame:
    """Return the picture for a window of that size; without ``height``, all of it."""
    overview = seen.overview
    if overview is None:
        lines: list[Line] = [(Cell("rota top", "bold"), Cell(f"  {_waiting(seen)}"))]
        return Frame(_fitted([*lines, *_footer(view, look, height)], look, width, height))
    now = datetime.fromisoformat(overview["at"]) + timedelta(seconds=seen.age_s)
    look = look._replace(now=now, width=width)
    head = _head(overview, seen, view, look, now)
    foot = _footer(view, look, height)
    room = None if height is None else max(0, height - len(head) - len(foot))
    if view.has_help:
        body = [(Cell(f" {key:<12}", "bold"), Cell(f" {what}")) for key, what in HELP]
        return Frame(_fitted([*head, (), *body], look, width, height, foot))
    sections = [
        _agents(overview, look),
        _running(overview, look, now),
        _queued(overview, look, now),
        _failed(overview, look),
    ]
    if view.log:
        sections = [_only(section, view.log) for section in sections[1:]]
        sections = [section for section in sections if section.rows][:1]
        shown = _with_log(sections, seen, view, look, room or len(seen.log) + 4)
    else:
        shown = _shared(sections, room)
    lines, choices, selected = _laid(shown, view, look, width)
    if view.log and not sections and seen.log_of == view.log:
        lines.insert(0, (Cell(f" {clean(seen.log_said)}", "bold"),))
    if view.log:
        every = (
            _running(overview, look, now),
            _queued(overview, look, now),
            _failed(overview, look),
        )
        choices = [choice for section in every for choice in section.choices]
    fitted = _fitted([*head, *lines], look, width, height, foot)
    place = None if selected is None else len(head) + selected
    return Frame(fitted, tuple(choices), place)


# -- above and below ----------------------------------------------------------------------------


def _waiting(seen: Seen) -> str:
    return seen.trouble or "asks an agent …"


def _head(
    overview: dict[str, Any], seen: Seen, view: View, look: Look, now: datetime
) -> list[Line]:
    leader = clean(overview["leader"])
    since = overview.get("leader_since")
    led = f"{leader} leads" if leader else "nobody leads"
    if leader and since:
        led += f" since {duration((now - datetime.fromisoformat(since)).total_seconds())}"
    up, members = overview["up"], overview["members"]
    voters = overview["voters"]
    parts = [led, f"{up} of {members} agents up" if up != members else f"{up} up"]
    if len(voters) > 1:
        parts.append(f"voters {clean(' '.join(voters))}")
    if view.filter:
        parts.append(f"jobs {clean(view.match)}")
    first: Line = (
        Cell("rota", "bold"),
        Cell(f"  {'  '.join(parts)}", "" if leader else "red"),
        Cell(f"  {now:%H:%M:%S}", "dim"),
    )
    used, slots = overview["used"], overview["slots"]
    pulse = overview["finished"]
    rest = [f"{overview['running']} running", f"{overview['queued']} queued"]
    if overview.get("oldest_at"):
        rest[-1] += f" for {_since(overview['oldest_at'], now)}"
    if overview["held"]:
        rest.append(f"{overview['held']} held")
    text = f" {used}/{slots} slots  {'  '.join(rest)}  "
    rate = f" {_rate(pulse)}/min"
    filled = slots_bar(look, used, slots, 10)
    room = (look.width or 0) - cells(filled) - len(text) - len(rate)
    second: Line = (
        Cell(filled, "blue"),
        Cell(text),
        Cell(
            sparkline(pulse, look, min(room, 20), low=0.0) if any(pulse) and room > 0 else "",
            "green",
        ),
        Cell(rate, "dim"),
    )
    return [first, second, *_warnings(overview, seen)]


def _rate(pulse: Sequence[int]) -> str:
    """Return how many builds finished a minute, over the last five whole ones."""
    whole = pulse[-RATE_MINUTES - 1 : -1]
    mean = sum(whole) / len(whole) if whole else 0.0
    return f"{mean:.1f}" if 0 < mean < 10 else f"{mean:.0f}"


def _warnings(overview: dict[str, Any], seen: Seen) -> list[Line]:
    lines: list[Line] = []
    if seen.silent_s > SILENT_S:
        said = f": {clean(seen.trouble)}" if seen.trouble else ""
        text = f"no answer for {duration(seen.silent_s)}, this is how it was{said}"
        lines.append((Cell(text, "red"),))
    if overview.get("stale_since"):
        since = overview["stale_since"][11:19]
        lines.append((Cell(f"stale: no quorum of the voters is heard since {since}", "red"),))
    elif seen.note:  # of what is stale the client says the same
        lines.append((Cell(clean(seen.note.removeprefix("rota: ")), "cyan"),))
    lines += [(Cell(clean(text), "yellow"),) for text in overview["trouble"]]
    return lines


def _footer(view: View, look: Look, height: int | None) -> list[Line]:
    if height is None:
        return []
    if view.typing is not None:
        return [(Cell(f"jobs: {clean(view.typing)}", "bold"), Cell("_  enter, or escape", "dim"))]
    if view.asking is not None:
        return [(Cell(f"cancel {clean(view.asking.build)}? y or n", "yellow"),)]
    if view.said:
        return [(Cell(clean(view.said), "yellow"),)]
    return [(Cell(_KEYS if look.unicode else _PLAIN_KEYS, "dim"),)]


# -- sections -----------------------------------------------------------------------------------


def _agents(overview: dict[str, Any], look: Look) -> _Section:
    rows: list[Line] = []
    shown = overview["agents"]
    name_width = _width((it["name"] for it in shown), 6, 16)
    # What all have says nothing; what was given by hand stands behind what was found.
    common = (
        set.intersection(*(set(it["labels"].items()) for it in shown)) if len(shown) > 1 else set()
    )
    for one in shown:
        state = one["state"]
        if state == "up" and (one["leaving"] or one["draining"]):
            state = "leaving" if one["leaving"] else "draining"
        labels = " ".join(
            f"{name}={value}" if value else name
            for name, value in reversed(one["labels"].items())
            if (name, value) not in common and name != "agent" and not name.startswith("can-")
        )
        used = f"{one['running']}/{one['slots']}"
        rows.append(
            (
                Cell(f" {_padded(look, one['name'], name_width)}", "bold"),
                Cell(f" {state:<8}", _STATES.get(state, "dim")),
                Cell(f" {slots_bar(look, one['running'], one['slots']):<8}", "blue"),
                Cell(f" {used:>6}"),
                Cell(f"  {'leads' if one['is_leader'] else '':<5}", "cyan"),
                Cell(f" {clean(labels)}", "dim"),
            )
        )
    return _Section("AGENTS", rows, overview["members"], [])


def _running(overview: dict[str, Any], look: Look, now: datetime) -> _Section:
    rows: list[Line] = []
    shown = overview["runs"]
    name_width = _width((it["build"] for it in shown), 12, 28)
    agent_width = _width((it["agent"] for it in shown), 4, 12)
    for one in shown:
        ran_s = max(0.0, (now - datetime.fromisoformat(one["started_at"])).total_seconds())
        rows.append(
            (
                Cell(f" {_padded(look, one['build'], name_width)}", "bold"),
                Cell(f" {_padded(look, one['agent'], agent_width)} "),
                *_progress(look, ran_s, one["typical_s"]),
                Cell(_remark(one), "yellow"),
            )
        )
    choices = [Choice(it["id"], it["build"], can_cancel=True) for it in shown]
    return _Section("RUNNING", rows, overview["running"], choices)


def _remark(one: dict[str, Any]) -> str:
    words = {"answer": "  asks", "builds": "  waits for builds"}
    return words.get(one["waits_for"], "") + (
        f"  attempt {one['attempt']}" if one["attempt"] > 1 else ""
    )


def _progress(look: Look, ran_s: float, typical_s: float | None) -> tuple[Cell, ...]:
    ran = duration(ran_s)
    if typical_s is None:
        signs = _SPINNER if look.unicode else _PLAIN_SPINNER
        return Cell(f"{signs[int(ran_s) % len(signs)]:<10}", "blue"), Cell(f" {ran:>6}")
    if ran_s > typical_s:
        over = duration(ran_s - typical_s)
        return Cell(bar(look, 1.0, 10), "yellow"), Cell(f" {ran:>6}, {over} over", "yellow")
    left = duration(typical_s - ran_s)
    share = ran_s / typical_s
    return Cell(bar(look, share, 10), "blue"), Cell(
        f" {ran:>6} {int(share * 100):>3}%, {left} left"
    )


def _queued(overview: dict[str, Any], look: Look, now: datetime) -> _Section:
    shown = overview["waiting"]
    name_width = _width((it["build"] for it in shown), 12, 28)
    rows: list[Line] = [
        (
            Cell(f" {_padded(look, it['build'], name_width)}", "bold"),
            Cell(f" {_since(it['requested_at'], now):>6}"),
            Cell(f"  {clean(_WAITS.get(it['text'], it['text']))}", "cyan"),
            Cell(f"  {clean(it['labels'])}" if it["labels"] else "", "dim"),
        )
        for it in shown
    ]
    choices = [Choice(it["id"], it["build"], can_cancel=True) for it in shown]
    return _Section("QUEUED", rows, overview["queued"], choices)


def _failed(overview: dict[str, Any], look: Look) -> _Section:
    shown = overview["failures"]
    name_width = _width((it["build"] for it in shown), 12, 28)
    rows: list[Line] = []
    for it in shown:
        mark = SIGNS.get(it["result"], ("✗", "x", "red"))[0 if look.unicode else 1]
        where = f"in step {it['step']}" if it["step"] else ""
        why = ": ".join(part for part in (where, it["message"]) if part)
        rows.append(
            (
                Cell(f" {mark}", "red"),
                Cell(f" {_padded(look, it['build'], name_width)}", "bold"),
                Cell(f" {ago(look, it['finished_at']):<11}", "dim"),
                Cell(f" {it['result']}", "red"),
                Cell(f"  {clean(why)}" if why else ""),
            )
        )
    choices = [Choice(it["id"], it["build"], can_cancel=False) for it in shown]
    return _Section("FAILED LATELY", rows, len(shown), choices)


def _only(section: _Section, build: str) -> _Section:
    for row, choice in zip(section.rows, section.choices, strict=True):
        if choice.id == build:
            return section._replace(rows=[row], choices=[choice], total=1)
    return section._replace(rows=[], choices=[], total=0)


# -- laying out ---------------------------------------------------------------------------------


def _shared(sections: Sequence[_Section], room: int | None) -> list[_Section]:
    """Return the sections that have something, cut to what fits together."""
    sections = [section for section in sections if section.rows]
    if room is None:
        return list(sections)
    heights = shares([len(section.rows) for section in sections], room - len(sections))
    return [
        section._replace(rows=section.rows[:height], choices=section.choices[:height])
        for section, height in zip(sections, heights, strict=True)
        if height > 0
    ]


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Return how many rows each gets: all alike, and what one does not need goes to the others."""
    given = [0] * len(needs)
    left = max(0, room)
    while left:
        hungry = [n for n, need in enumerate(needs) if given[n] < need]
        if not hungry:
            break
        each = max(1, left // len(hungry))
        for n in hungry:
            more = min(each, needs[n] - given[n], left)
            given[n] += more
            left -= more
    return given


def _with_log(
    sections: Sequence[_Section], seen: Seen, view: View, look: Look, room: int
) -> list[_Section]:
    above = sum(1 + len(section.rows) for section in sections) or 1
    lines = list(seen.log) if seen.log_of == view.log else ["…" if look.unicode else "..."]
    fitting = max(1, room - above - 1)
    rows: list[Line] = [(Cell(line),) for line in lines[-fitting:]]
    return [*sections, _Section("LOG", rows or [(Cell("no output", "dim"),)], 0, [])]


def _laid(
    sections: Sequence[_Section], view: View, look: Look, width: int
) -> tuple[list[Line], list[Choice], int | None]:
    lines: list[Line] = []
    choices: list[Choice] = []
    selected = None
    for section in sections:
        count = (
            f" {len(section.rows)} of {section.total}" if section.total > len(section.rows) else ""
        )
        lines.append((Cell(section.title, "dim"), Cell(count, "dim")))
        for n, row in enumerate(section.rows):
            if section.choices and section.choices[n].id == view.selected:
                selected = len(lines)
            lines.append(row)
        choices += section.choices
    return lines, choices, selected


def _fitted(
    lines: Sequence[Line],
    look: Look,
    width: int,
    height: int | None,
    foot: Sequence[Line] = (),
) -> list[Line]:
    """Return lines that fit the window, ``foot`` at its end."""
    if height is not None:
        lines = list(lines[: max(0, height - len(foot))])
        lines += [()] * (height - len(foot) - len(lines))
        lines = [*lines, *foot][:height]
    return [_cut(line, look, width) for line in lines]


def _cut(line: Line, look: Look, width: int) -> Line:
    kept: list[Cell] = []
    left = width
    for cell in line:
        if left > 0 and cell.text:
            # What is far too long is shortened at once: `cut` goes back sign by sign.
            text = cut(look, cell.text[: left + 1], left)
            kept.append(cell._replace(text=text))
            left -= cells(text)
    return tuple(kept)


def _padded(look: Look, text: str, width: int) -> str:
    text = cut(look, clean(text), width)
    return text + " " * (width - cells(text))


def _width(names: Any, least: int, most: int) -> int:
    return min(max([least, *(cells(clean(name)) for name in names)]), most)


def _since(at: str, now: datetime) -> str:
    return duration((now - datetime.fromisoformat(at)).total_seconds())
