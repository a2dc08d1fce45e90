"""Schedules: what comes next, why something did not fire, making up for it, proof, and rehearsal."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, clean, paint, table
from rota.cli.screen import Screen, no_files
from rota.core.durations import format_duration, parse_duration
from rota.errors import InputError

if TYPE_CHECKING:
    from rota.cli.commands.reading import Clone
    from rota.core.calendars import Calendar
    from rota.core.schedule_proof import Proof
    from rota.core.schedules import Instants, Scheduled
    from rota.core.simulation import Away, Load, Outcome

#: A build of a job that never ran is taken to run so long.
UNKNOWN_S = 60.0
#: A leader that is lost is replaced after so long.
ELECTION_S = 8.0
BAR = 30
MAX_DAYS = 3660


def schedule(args: Namespace, screen: Screen) -> int:
    """List what is to fire next; or prove by the history that all was settled."""
    words = list(args.words)
    if words[:1] == ["verify"] and len(words) <= 2:
        return _verify(args, screen, words[1] if len(words) == 2 else "")
    if len(words) > 1:
        raise InputError(
            f"schedule: {' '.join(words)!r} is neither one job nor verify",
            hint="rota schedule [JOB] | verify [JOB]",
        )
    match = words[0] if words else "*"
    answer = connected(args).call(
        "schedules", match=match, start=vars(args)["from"], limit=args.limit
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    look = screen.at(answer)
    screen.lines(table([_next_row(it, look.now) for it in found["next"]], look, (2, 3)))
    for it in found["idle"]:
        screen.line(f"{clean(it['schedule'])}  {clean(it['rule'])}  {clean(it['why'])}")
    if not found["next"] and not found["idle"] and screen.out.is_terminal:
        which = "no job has a schedule" if match == "*" else f"{match} has no schedule"
        screen.note(f'{which}\n\nhint: on = [ {{ cron = "H 2 * * *" }} ] in a job\'s header')
    return 0


def why_not(args: Namespace, screen: Screen) -> int:
    """Say why a job did not run at a time."""
    answer = connected(args).call("why_not", job=args.job, at=args.at_time)
    if args.json:
        screen.json(answer)
        return 0
    for it in answer.json()["answers"]:
        name = paint(screen.out, "bold", clean(it["schedule"]))
        screen.line(f"{name} ({clean(it['rule'])}) at {_instant(it['at'])}:")
        screen.line(f"  {clean(it['text'])}")
    return 0


def backfill(args: Namespace, screen: Screen) -> int:
    """Make up for instants."""
    start = vars(args)["from"]
    if start is None:
        raise InputError("missing: --from", hint="such as --from 2026-12-24T18:00")
    answer = connected(args).call(
        "backfill", job=args.job, start=start, end=args.to, dry_run=args.dry_run
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()["instants"]
    for it in found:
        build = clean(it["build"] or "-")
        word = (
            ("would be asked for" if args.dry_run else "asked for") if it["is_new"] else "is there"
        )
        screen.line(f"{_instant(it['at'])}  {clean(it['schedule'])}  {build}  {word}")
    new = sum(it["is_new"] for it in found)
    if screen.out.is_terminal:
        screen.note(f"{len(found)} instants, {new} without a build" if found else "no instant then")
    return 0


# -- proof ------------------------------------------------------------------------------------


def _verify(args: Namespace, screen: Screen, job: str) -> int:
    from rota.cli.commands.reading import clone_of
    from rota.core.schedule_proof import prove

    if not screen.has_files:
        raise no_files("schedule verify")

    with clone_of(args) as clone:
        timetables = _Timetables(clone)
        report = prove(clone.notes(), tuple(clone.builds()), timetables.made, job)
    if args.json:
        _print_json(report, screen)
    else:
        screen.lines(_report_lines(report, screen))
    return 0 if report.is_clean else 1


class _Timetables:
    """Makes timetables with the calendars of the commit that each schedule is from."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone
        self._calendars: dict[str, Mapping[str, Calendar]] = {}

    def made(self, id_: str, scheduled: Scheduled) -> Instants | None:
        from rota.core.timetable import Timetable

        rule = scheduled.rule
        calendars = self._of(scheduled.commit) if rule.calendars or rule.excepts else {}
        return Timetable(rule, id_, calendars)

    def _of(self, commit: str) -> Mapping[str, Calendar]:
        from rota.core.definitions import check_tree

        if commit not in self._calendars:
            files = self._clone.main(commit)
            self._calendars[commit] = check_tree(files)[0].calendars
        return self._calendars[commit]


def _report_lines(report: Proof, screen: Screen) -> list[str]:
    lines = [
        f"{clean(it.schedule)}  {_utc(it.at)}  {paint(screen.out, 'red', it.what)}: {clean(it.text)}"
        for it in report.findings
    ]
    if report.more:
        lines.append(f"and {report.more} more")
    if report.through is None:
        return [*lines, "no schedule is in the history"]
    count = len(report.findings) + report.more
    verdict = "each once" if report.is_clean else f"{count} of them wrong"
    lines.append(
        f"{report.schedules} schedules up to {_utc(report.through)}: {report.fired} instants fired,"
        f" {report.skipped} were skipped with a reason, {verdict}"
    )
    return lines


# -- rehearsal --------------------------------------------------------------------------------


def simulate(args: Namespace, screen: Screen) -> int:
    """Let days pass in virtual time, and print what schedules come to."""
    from rota.cli.commands.reading import clone_of
    from rota.core.definitions import check_tree
    from rota.core.scheduling import wanted_schedules
    from rota.core.simulation import Simulation
    from rota.core.timetable import Timetable

    days = 30 if args.days is None else args.days
    if not 1 <= days <= MAX_DAYS:
        raise InputError(f"--days must be from 1 to {MAX_DAYS}, not {days}")
    start = _start(vars(args)["from"] or "")
    end = start + timedelta(days=days)
    with clone_of(args) as clone:
        definitions, _ = check_tree(clone.main())
        assumed = _assumed(clone, definitions.jobs)
    if args.job and args.job not in definitions.jobs:
        raise InputError(f"no job {args.job!r}", hint="see which there are: rota jobs")
    schedules: dict[str, Scheduled] = {}
    instants: dict[str, Instants] = {}
    for name, definition in definitions.jobs.items():
        if args.job in (None, name):
            for id_, it in wanted_schedules(definitions, definition, "").items():
                schedules[id_] = _from(it, start)
                instants[id_] = Timetable(it.rule, id_, definitions.calendars)
    away = _away(args, start, end)
    simulation = Simulation(schedules, instants, assumed, start, end, away)
    for count, now in enumerate(simulation.run()):
        if count % 5000 == 4999 and screen.err.is_terminal:
            screen.text(f"\r{now:%Y-%m-%d}", on_error=True)
    if screen.err.is_terminal:
        screen.text("\r          \r", on_error=True)
    if args.json:
        _print_json(simulation.outcome, screen)
    else:
        screen.lines(_outcome_lines(simulation.outcome, screen))
    return 0


def _from(it: Scheduled, start: datetime) -> Scheduled:
    from msgspec.structs import replace

    return replace(it, since=start - timedelta(microseconds=1))


def _start(text: str) -> datetime:
    if not text:
        return datetime(*time.gmtime()[:4], tzinfo=UTC)  # the hour that has begun
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date", hint="such as 2027-01-01") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _assumed(clone: Clone, jobs: Mapping[str, Any]) -> dict[str, Any]:
    """Return how long a build of each job takes: as long as those in the history did, on average."""
    from rota.core.simulation import Assumed

    took: dict[str, tuple[float, int]] = {}
    for build in clone.builds():
        if build.started_at is not None and build.finished_at is not None:
            total, count = took.get(build.job, (0.0, 0))
            seconds = (build.finished_at - build.started_at).total_seconds()
            took[build.job] = total + max(0.0, seconds), count + 1
    return {
        name: Assumed(
            definition.job.spec.labels,
            took[name][0] / took[name][1] if name in took else UNKNOWN_S,
        )
        for name, definition in jobs.items()
    }


def _away(args: Namespace, start: datetime, end: datetime) -> list[Away]:
    from rota.core.simulation import Away

    found = []
    for text in args.outage or ():
        first, _, long = text.partition("+")
        seconds = parse_duration(long)
        if isinstance(seconds, str):
            raise InputError(f"--outage {text!r}: {seconds}", hint="2027-03-28T00:30+2h")
        at = _start(first)
        found.append(Away(at, at + timedelta(seconds=seconds)))
    losses = args.losses or 0
    step = (end - start) / (losses + 1)
    for number in range(1, losses + 1):
        # On the minute, where most instants are.
        at = (start + number * step).replace(second=0, microsecond=0) - timedelta(seconds=1)
        found.append(Away(at, at + timedelta(seconds=ELECTION_S)))
    return sorted(found, key=lambda it: it.start)


def _outcome_lines(outcome: Outcome, screen: Screen) -> list[str]:
    days = (outcome.end - outcome.start) / timedelta(days=1)
    total = sum(outcome.builds.values())
    lines = [f"{days:g} days from {outcome.start:%Y-%m-%d %H:%M} UTC: {total} builds"]
    for why, count in sorted(outcome.skips.items(), key=lambda it: -it[1]):
        lines.append(f"{count} instants skipped: {clean(why)}")
    if outcome.latest_s > 1:
        lines.append(f"at most {format_duration(outcome.latest_s)} late")
    for labels, load in sorted(outcome.loads.items(), key=lambda it: -sum(it[1].busy_s)):
        name = clean(labels) or "(any agent)"
        lines += ["", f"{paint(screen.out, 'bold', name)}: {load.builds} builds, by hour (UTC):"]
        lines += _load_lines(load, days, screen)
    return lines


def _load_lines(load: Load, days: float, screen: Screen) -> list[str]:
    averages = [seconds / (3600.0 * days) for seconds in load.busy_s]
    most = max(averages) or 1.0
    mark = "█" if screen.out.unicode else "#"
    lines = []
    for hour, average in enumerate(averages):
        bar = (mark * round(BAR * average / most)).ljust(BAR)
        lines.append(f"  {hour:02}  {bar}  {average:6.2f} at once, at most {load.peak[hour]}")
    return lines


# -- words ------------------------------------------------------------------------------------


def _next_row(it: dict[str, Any], now: datetime | None) -> tuple[Cell, ...]:
    at = datetime.fromisoformat(it["due_at"])
    left = "" if now is None else f"in {format_duration(max(0, round((at - now).total_seconds())))}"
    return (
        Cell(_instant(it["at"])),
        Cell(left, "dim", right=True),
        Cell(clean(it["schedule"])),
        Cell(clean(it["rule"]), "dim"),
    )


def _instant(text: str) -> str:
    return _utc(datetime.fromisoformat(text))


def _utc(at: datetime) -> str:
    at = at.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if at.microsecond else "%Y-%m-%dT%H:%M:%SZ")


def _print_json(value: object, screen: Screen) -> None:
    import msgspec

    screen.text(json.dumps(msgspec.to_builtins(value)) + "\n")
