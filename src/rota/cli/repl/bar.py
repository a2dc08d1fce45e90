"""How the cluster is, in one line of words with colours. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from rota.cli.render import Look, cells, clean, cut

Words = list[tuple[str, str]]
"""Colour and text, one after another."""


#: What is cut to less says nothing.
MIN_CUT = 20


class Beat(NamedTuple):
    """What is known of the cluster: the last overview, and why there is none newer."""

    overview: dict[str, Any] | None = None
    trouble: str = ""
    since: str = ""  # when the trouble began, as the clock on the wall has it


def bar(beat: Beat, look: Look) -> Words:
    """Return what there is to say in one line; in one that is narrow, what matters most."""
    parts = _parts(beat)
    dot = " · " if look.unicode else " | "
    room = (look.width or 80) - 2
    found: Words = []
    for place, (code, text) in enumerate(parts):
        head = dot if place else ""
        left = room - sum(cells(text) for _, text in found) - len(head)
        if place and cells(text) > left and left < MIN_CUT:
            break
        found += (
            [("", head), (code, cut(look, text, left))] if head else [(code, cut(look, text, left))]
        )
    return [("", " "), *found, ("", " ")]


def _parts(beat: Beat) -> Words:
    if beat.trouble:
        return [("red", f"no answer since {beat.since}"), ("", clean(beat.trouble))]
    it = beat.overview
    if it is None:
        return [("dim", "asking…")]
    if it["stale_since"]:
        since = str(it["stale_since"])[11:19]
        return [
            ("red", f"no quorum since {since} UTC"),
            ("", "what is shown is as of then, nothing can be written"),
            ("", f"at {clean(it['agent'])}"),
        ]
    parts = [("bold", clean(it["agent"])), _leader(it), _agents(it)]
    parts.append(("blue" if it["running"] else "", f"{it['running']} running of {it['slots']}"))
    parts.append(("cyan" if it["queued"] else "", f"{it['queued']} queued"))
    if it["held"]:
        parts.append(("yellow", f"{it['held']} held"))
    parts += [("red", clean(text)) for text in it["trouble"][:1]]
    return parts


def _leader(it: dict[str, Any]) -> tuple[str, str]:
    if not it["leader"]:
        return "red", "no leader"
    return "", "leads" if it["leader"] == it["agent"] else f"{clean(it['leader'])} leads"


def _agents(it: dict[str, Any]) -> tuple[str, str]:
    up, members = it["up"], it["members"]
    if up < members:
        return "red", f"{up} of {members} agents up"
    return "", "1 agent" if members == 1 else f"{members} agents"
