"""Whether a build passes by what it reports: tests that failed, reports that are missing, coverage."""

from __future__ import annotations

import msgspec

from rota.core.build import Build
from rota.core.cases import Tally
from rota.core.job import Spec
from rota.core.metrics import COVERAGE, value_of
from rota.core.reports import CoverageReports, Covered


class Verdict(msgspec.Struct, frozen=True):
    """``fails``: a build whose script passed does not. ``faults`` say why, ``warnings`` what else."""

    fails: bool = False
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(
    spec: Spec,
    tally: Tally | None,
    covered: Covered | None,
    missing: tuple[str, ...],
    former: Build | None,
    *,
    passed: bool,
) -> Verdict:
    """Return what the reports say of a build.

    Args:
        spec: What its header asks for.
        tally: What its tests came to; ``None`` if no report could be read.
        covered: What of the code was run; ``None`` likewise.
        missing: Keys of the header whose files say nothing.
        former: The build that its coverage is compared with, if there is one.
        passed: Whether its script passed. Where it did not, what is missing is no wonder.
    """
    faults: list[str] = []
    warnings: list[str] = []
    if tally is not None and tally.bad:
        text = f"{tally.bad} of {tally.total} test{'' if tally.total == 1 else 's'} failed"
        (faults if spec.tests is None or spec.tests.fail else warnings).append(text)
    for key, wanted in (("tests", spec.tests), ("coverage", spec.coverage)):
        if key in missing and wanted is not None and wanted.required and passed:
            faults.append(f"no report of {key} could be read, and one is required")
    if spec.coverage is not None and covered is not None:
        low = _too_low(spec.coverage, covered, former)
        (faults if spec.coverage.fail else warnings).extend(low)
    return Verdict(passed and bool(faults), tuple(faults), tuple(warnings))


def _too_low(wanted: CoverageReports, covered: Covered, former: Build | None) -> list[str]:
    percent = covered.line_percent
    if percent is None:
        return []
    low = []
    if wanted.minimum is not None and percent < wanted.minimum:
        low.append(f"coverage is {percent:g} %, less than the minimum of {wanted.minimum:g} %")
    before = value_of(former, COVERAGE) if former is not None else None
    # Percents have two decimals: what is computed of them is as exact.
    if wanted.drop is not None and before is not None and former is not None:
        drop = round(before - percent, 2)
        if drop > wanted.drop:
            low.append(
                f"coverage dropped by {drop:g} points from {before:g} % of {former.ref}, more than"
                f" {wanted.drop:g}"
            )
    return low
