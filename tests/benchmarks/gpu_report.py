"""What `tests.benchmarks.gpu` found: from its journal to a table, notes and raw numbers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from .comparing import ratios
from .gpu_sides import ENGINES, OURS, SIDES, WHATS, Case
from .training import NAMES, markdown, spread

if TYPE_CHECKING:
    from .gpu_measure import Plan

# ||a - b|| / ||b|| beyond which an engine is wrong: outputs or gradients against float64, outputs
# of a timed side against the scan's. Rounding at every step stays below; a wrong gate gives some 1.
MOST = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}

# Microseconds a step of an LSTM's forward pass in 16 bits on an H200, (B, H): an estimate from its
# arithmetic, its bandwidth and the exchange between its blocks, not a measurement.
FLOORS = {(1, 128): (0.5, 0.8), (16, 512): (1.0, 1.5), (64, 1024): (2.2, 3.5), (128, 2048): (8, 10)}


class Time(NamedTuple):
    """One side of one row, forward or gradient."""

    compile: float  # seconds, with others compiling at the same time
    seconds: list[float]  # of one call, by round


class Report(NamedTuple):
    facts: dict[str, Any]
    sides: tuple[str, ...]
    checks: dict[tuple[Case, str], tuple[float, float]]  # errors of ys and of the gradients
    times: dict[tuple[Case, str, str], Time]
    differences: dict[tuple[Case, str], float]  # of ys, from the scan's
    missing: dict[tuple[str, Case, str, str], str]  # stage, case, side, what: reason

    @classmethod
    def of(cls, plan: Plan, entries: list[dict[str, Any]], facts: dict[str, Any]) -> Report:
        """From the journal; what has neither a number nor a reason was not reached."""
        cases = {str(c): c for c in (*plan.checks, *plan.cases)}
        unknown = {"backend": None, "device": "unknown", "versions": {}}
        report = cls(unknown | facts, plan.sides, {}, {}, {}, {})
        reasons: dict[tuple[str, str, str, str], str] = {}
        for e in entries:
            if e["kind"] == "facts":
                report.facts.update({k: e[k] for k in ("backend", "device", "versions")})
            elif e["kind"] == "error":
                report.checks[cases[e["case"]], e["side"]] = (e["ys"], e["gradients"])
            elif e["kind"] == "seconds" and e["seconds"]:
                key = (cases[e["case"]], e["side"], e["what"])
                report.times[key] = Time(e["compile"], e["seconds"])
            elif e["kind"] == "difference":
                report.differences[cases[e["case"]], e["side"]] = e["ys"]
            elif e["kind"] == "missing":
                reasons[e["stage"], e["case"], e["side"], e["what"]] = e["reason"]
        report.explain(plan, reasons)
        return report

    def explain(self, plan: Plan, reasons: dict[tuple[str, str, str, str], str]) -> None:
        """Why each number that is not there is missing."""

        def why(stage: str, case: Case, side: str, what: str) -> str:
            """The side's own reason, else what befell it in all, else the time."""
            known = [reasons.get((stage, str(case), side, w)) for w in (what, "")]
            if stage == "check" and (lost := reasons.get((stage, str(case), "float64", "both"))):
                known.append(f"no scan in float64: {lost}")
            late = f"not reached within {self.facts['allowed']:.0f} s"
            return next((reason for reason in known if reason), late)

        wanted = [("check", c, s, "both") for c in plan.checks for s in ENGINES if s in plan.sides]
        wanted += [("time", c, s, w) for c in plan.cases for s in plan.sides for w in WHATS]
        for stage, case, side, what in wanted:
            known = (case, side) in self.checks if stage == "check" else False
            if not known and (case, side, what) not in self.times:
                self.missing[stage, case, side, what] = why(stage, case, side, what)

    @property
    def rows(self) -> list[Case]:
        """The cases of which something was timed."""
        return list(dict.fromkeys(case for case, _, _ in self.times))

    def micros(self, case: Case, side: str, what: str) -> float | None:
        """Median microseconds a step."""
        time = self.times.get((case, side, what))
        return 1e6 * statistics.median(time.seconds) / case.T if time else None

    def wrong(self, case: Case, side: str) -> bool:
        """Whether its numbers are others, in this row or in a check of its cell and dtype."""
        errors = [self.differences.get((case, side), 0.0)]
        for (checked, engine), found in self.checks.items():
            if engine == side.removesuffix("+graphs") and checked[:2] == case[:2]:
                errors += found
        return not all(error <= MOST[case.dtype] for error in errors)  # a NaN is wrong too

    def best(self, case: Case, what: str) -> str | None:
        """Recurrax's fastest engine."""
        found = {
            side: self.micros(case, side, what)
            for side in OURS
            if (case, side, what) in self.times and not self.wrong(case, side)
        }
        return min(found, key=lambda side: found[side] or math.inf, default=None)

    def ratio(self, case: Case, side: str, over: str | None, what: str) -> float | None:
        """The median over the rounds of a side's time over another's."""
        a, b = (self.times.get((case, s or "", what)) for s in (side, over))
        if a is None or b is None:
            return None
        n = min(len(a.seconds), len(b.seconds))
        return statistics.median(ratios(a.seconds[:n], b.seconds[:n]))

    def raw(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **self.facts,
            "checks": [
                {"case": c._asdict(), "engine": side, "ys": ys, "gradients": gradients}
                for (c, side), (ys, gradients) in self.checks.items()
            ],
            "times": [
                {
                    "case": c._asdict(),
                    "side": side,
                    "what": what,
                    "compile_seconds": time.compile,
                    "seconds": time.seconds,
                    "microseconds_a_step": self.micros(c, side, what),
                    "over_best_recurrax": self.ratio(c, side, self.best(c, what), what),
                    "best_recurrax": self.best(c, what),
                    "difference_from_scan": self.differences.get((c, side)),
                    "wrong": self.wrong(c, side),
                }
                for (c, side, what), time in self.times.items()
            ],
            "missing": [
                {"stage": stage, "case": c._asdict(), "side": side, "what": what, "reason": reason}
                for (stage, c, side, what), reason in self.missing.items()
            ],
        }


def table(report: Report) -> list[str]:
    """A row for each case: microseconds a step of the best engine, ratios to it of all."""
    sides = [s for s in SIDES if any(side == s for _, side, _ in report.times)]
    rows = [["cell", "dtype", "B x H", "best, us a step", *sides, "floor, us"]]
    for case in report.rows:
        best = [_best(report, case, what) for what in WHATS]
        row = [NAMES[case.cell], case.dtype, f"{case.B} x {case.H}", " / ".join(best)]
        for side in sides:
            cells = [_number(report, case, side, what) for what in WHATS]
            mark = "!" if any(cells) and report.wrong(case, side) else ""
            row.append(" / ".join(cell or "-" for cell in cells) + mark if any(cells) else "")
        rows.append([*row, _floor(report, case)])
    return markdown(rows)


def _best(report: Report, case: Case, what: str) -> str:
    side = report.best(case, what)
    return "-" if side is None else f"{report.micros(case, side, what):.3g} {side}"


def _number(report: Report, case: Case, side: str, what: str) -> str:
    x = report.ratio(case, side, report.best(case, what), what)
    return "" if x is None else f"{x:.2f}"


def _floor(report: Report, case: Case) -> str:
    known = case.cell == "lstm" and case.dtype != "float32" and "H200" in report.facts["device"]
    floor = FLOORS.get((case.B, case.H)) if known else None
    return f"{floor[0]:g} to {floor[1]:g}" if floor else ""


LEGEND = (
    "Forward / value and gradient. The best is recurrax's fastest engine; the other columns are "
    "times over its time, so above 1 it is faster. `!`: the numbers differ by more than rounding. "
    "The floor is an estimate for the forward pass."
)


def graphs(report: Report) -> list[str]:
    """What CUDA graphs gain."""
    lines = []
    for engine in ("scan", "hoisted"):
        for what in WHATS:
            found = [report.ratio(c, engine, f"{engine}+graphs", what) for c in report.rows]
            values = [x for x in found if x is not None]
            lines.append(f"- {engine}, {what}: time without over with graphs {spread(values)}")
    return lines


def kernel(report: Report) -> list[str]:
    """The kernel: microseconds a step, and the trial compile that comes before."""
    lines = []
    for case in report.rows:
        found = [report.micros(case, "kernel", what) for what in WHATS]
        if case.H <= 128 and any(found):
            text = " / ".join("-" if x is None else f"{x:.3g}" for x in found)
            lines.append(f"- {case}: {text} us a step, forward / value and gradient")
    compiled = {c for c, side, _ in report.times if side == "kernel"}
    compiled |= {c for c, side in report.checks if side == "kernel"}
    refused = [
        f"{c}: {reason}"
        for (_, c, side, what), reason in report.missing.items()
        if side == "kernel" and what != "gradient" and "does not compile" in reason
    ]
    if report.facts.get("backend") == "gpu":
        lines.append(f"- the trial compile succeeded in {len(compiled)} cases")
        lines += [f"- the trial compile failed in {text}" for text in dict.fromkeys(refused)]
    return lines or ["- not measured"]


def checks(report: Report) -> list[str]:
    """Errors against float64."""
    rows = [["case", *(f"{engine}: outputs, gradients" for engine in ENGINES)]]
    for case in dict.fromkeys(case for case, _ in report.checks):
        found = [report.checks.get((case, engine)) for engine in ENGINES]
        rows.append([str(case), *("" if e is None else _errors(e, case) for e in found)])
    return markdown(rows) if len(rows) > 1 else ["not measured"]


def _errors(found: tuple[float, float], case: Case) -> str:
    fine = all(error <= MOST[case.dtype] for error in found)
    return f"{found[0]:.1e}, {found[1]:.1e}" + "!" * (not fine)


def absent(report: Report) -> list[str]:
    """Who is missing, where and why; never silently."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for (stage, case, side, _), reason in report.missing.items():
        where = found.setdefault((stage, side, reason), [])
        text = f"{case.cell} {case.dtype} {case.B} x {case.H}"
        where.extend([text] if text not in where else [])
    return [
        f"- {side} ({'check' if stage == 'check' else 'time'} of {', '.join(where)}) "
        f"missing: {reason}"
        for (stage, side, reason), where in found.items()
    ]


def where(report: Report) -> str:
    """Device, versions, date."""
    facts = report.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['device']} ({facts['backend']}), {facts['cpu']}, {facts['cores']} cores, Python "
        f"{facts['python']}, {versions}; {facts['date']}, {facts['rounds']} rounds in turn, "
        f"medians, {facts['took']:.0f} s in all"
    )


def story(report: Report) -> str:
    """All of it, in Markdown."""
    return "\n".join(
        [
            "# recurrax on a GPU",
            "",
            where(report),
            "",
            *_timed(report),
            "",
            "CUDA graphs:",
            "",
            *graphs(report),
            "",
            "The kernel:",
            "",
            *kernel(report),
            "",
            "Errors against a scan in float64, `||a - b|| / ||b||`, of the gradients the largest:",
            "",
            *checks(report),
            "",
            "Missing:",
            "",
            *(absent(report) or ["- nothing"]),
        ]
    )


def _timed(report: Report) -> list[str]:
    return [*table(report), "", LEGEND] if report.rows else ["Nothing was timed."]


def results_text(report: Report) -> str:
    """What stands between the markers in RESULTS.md."""
    head = f"`python -m tests.benchmarks.gpu --results` wrote this on {report.facts['date']}."
    gains = [line for line in graphs(report) if "not measured" not in line]
    return "\n".join([head, "", *_timed(report), "", *gains, "", f"Measured on {where(report)}."])
