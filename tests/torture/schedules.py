"""Loses leaders around fire times on real agents, at length: `python -m tests.torture.schedules`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.lab import lab, leader
from tests.harness.timetabled import fired, judge, lose_leaders, put, span_of


def main() -> int:
    """Run it; return 0 if each instant was settled once."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.schedules", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rota-torture-") as folder, lab(Path(folder)) as made:
        hosts = made.cluster(3, slots=4)
        put(hosts[0])
        lose_leaders(hosts, options.kills)
        fired(leader(hosts), 6)
        reports = judge(hosts)
        span = span_of(hosts[0])
    for report in reports:
        for finding in report.findings[:20]:
            print(finding)
    print(
        f"{options.kills} leaders lost in {span}: {reports[0].fired} instants fired,"
        f" {reports[0].skipped} skipped, {sum(len(it.findings) for it in reports)} wrong,"
        f" in {time.monotonic() - began:.0f} s"
    )
    return 0 if all(report.is_clean for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
