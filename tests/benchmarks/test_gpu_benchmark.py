"""The benchmark's own parts, on made-up journals and on a CPU at a size that takes little time."""

from __future__ import annotations

import json
import math
import time

import pytest
from benchmarks import gpu, gpu_measure, gpu_report
from benchmarks.gpu import MARKERS, after, chosen, read, still_open, watched
from benchmarks.gpu_measure import Journal, Plan
from benchmarks.gpu_report import Report, absent, graphs, kernel, results_text, story, table
from benchmarks.gpu_sides import ENGINES, Case

CASE, OTHER = Case("lstm", "bfloat16", 10, 1, 128), Case("gru", "float32", 10, 3, 4)
FACTS = {
    "cpu": "a processor", "cores": 2, "python": "3.12.0", "date": "2026-01-31", "rounds": 3,
    "allowed": 480.0, "took": 7.0,
}  # fmt: skip
SIDES = ("kernel", "scan", "scan+graphs", "flax", "torch")
PLAN = Plan((CASE,), (CASE, OTHER), SIDES, until=math.inf, rounds=1, seconds=0.0, threads=1)


def seconds(side, values, what="forward", case=CASE):
    about = {"kind": "seconds", "case": str(case), "side": side, "what": what}
    return {**about, "compile": 1.0, "loops": 1, "seconds": values}


def about(kind, side, what="forward", stage="time", case=CASE, **more):
    return {"kind": kind, "stage": stage, "case": str(case), "side": side, "what": what, **more}


def entries():
    """The kernel is best and flax wrong; torch is missing, and the GRU was not reached."""
    device = {"backend": "gpu", "device": "NVIDIA H200", "versions": {"jax": "0.11.2"}}
    return [
        {"kind": "facts", **device},
        {"kind": "error", "case": str(CASE), "side": "kernel", "ys": 0.01, "gradients": 0.02},
        seconds("kernel", [1e-5, 2e-5, 4e-5]),
        seconds("scan", [3e-5, 8e-5, 8e-5]),
        seconds("scan+graphs", [3e-5, 4e-5, 2e-4]),
        seconds("flax", [1e-6, 1e-6, 1e-6]),
        {"kind": "difference", "case": str(CASE), "side": "flax", "ys": float("nan")},
        about("missing", "kernel", "gradient", reason="cannot run: it does not compile: why"),
        about("missing", "kernel", "forward", "check", reason="does not compile"),
        about("missing", "torch", "", reason="No module named 'torch'"),
    ]


def made_up():
    return Report.of(PLAN, entries(), FACTS)


def test_times_are_medians_and_ratios_are_taken_within_rounds():
    report = made_up()
    assert report.micros(CASE, "kernel", "forward") == pytest.approx(2.0)
    assert report.best(CASE, "forward") == "kernel"
    assert report.best(CASE, "gradient") is None
    assert report.ratio(CASE, "scan", "kernel", "forward") == pytest.approx(3.0)
    assert report.ratio(CASE, "torch", "kernel", "forward") is None


def test_a_wrong_engine_is_not_the_best():
    wrong = {"kind": "error", "case": str(CASE), "side": "kernel", "ys": 0.01, "gradients": 1.0}
    report = Report.of(PLAN, [*entries(), wrong], FACTS)
    assert report.best(CASE, "forward") == "scan+graphs"
    assert report.wrong(CASE, "kernel")
    assert report.wrong(CASE, "flax")
    assert not report.wrong(CASE, "scan")


def test_the_table_has_a_row_for_what_was_timed():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(made_up())]
    assert len(rows) == 3
    assert rows[0][3:] == ["best, us a step", "kernel", "scan", "scan+graphs", "flax", "floor, us"]
    assert rows[2][:4] == ["LSTM", "bfloat16", "1 x 128", "2 kernel / -"]
    assert rows[2][4:] == ["1.00 / -", "3.00 / -", "3.00 / -", "0.05 / -!", "0.5 to 0.8"]


def test_nobody_is_left_out_silently():
    report = made_up()
    lines = absent(report)
    where = "time of lstm bfloat16 1 x 128"
    assert f"- torch ({where}) missing: No module named 'torch'" in lines
    late = "not reached within 480 s"
    assert f"- scan ({where}, gru float32 3 x 4) missing: {late}" in lines
    assert f"- scan (check of lstm bfloat16 1 x 128) missing: {late}" in lines
    assert len(report.times) + sum(stage == "time" for stage, *_ in report.missing) == 2 * 2 * 5


def test_what_was_unmeasured_is_reported():
    assert (
        graphs(made_up())[0] == "- scan, forward: time without over with graphs 1.00 (1.00 to 1.00)"
    )
    assert "not measured" in graphs(made_up())[1]
    lines = kernel(made_up())
    assert lines[0] == f"- {CASE}: 2 / - us a step, forward / value and gradient"
    assert lines[1] == "- the trial compile succeeded in 1 cases"


def test_a_plan_goes_on_without_what_is_to_blame(tmp_path):
    begun = [about("begin", "scan"), about("end", "scan"), about("begin", "kernel")]
    assert still_open(begun) == [("time", str(CASE), "kernel", "forward")]
    plan = after(PLAN, begun, 0, "it died")
    assert plan.reason("time", CASE, "kernel") == "it died"
    assert plan.reason("time", OTHER, "kernel") is None
    assert plan.banned == {}
    plan = after(plan, [*begun, *begun], len(begun), "it died")
    assert "2 times; the last time it died" in plan.reason("time", OTHER, "kernel")
    done = after(PLAN, [{"kind": "done", "stage": "check", "case": str(CASE)}], 0, "it died")
    assert (done.checks, done.cases) == ((), PLAN.cases)


def test_where_several_could_be_to_blame_they_are_tried_one_after_another():
    begun = [about("begin", "scan"), about("begin", "kernel")]
    plan = after(PLAN, begun, 0, "it died")
    assert plan.careful == {str(CASE)}
    assert plan.reason("time", CASE, "kernel") is None
    broken = [about("missing", "scan", reason="an illegal access"), about("broken", "")]
    assert after(PLAN, broken, 0, "it died").reason("time", CASE, "scan") is None
    again = after(plan, broken, 0, "it died")
    assert again.reason("time", CASE, "scan") == "an illegal access"


def test_a_hung_process_is_ended_and_a_cut_line_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PATIENCE", -1.0)
    path = tmp_path / "journal"
    plan = PLAN._replace(until=time.time() + 60)
    assert watched(plan, path) == "nothing came for -1 s"
    path.write_text('{"kind": "done"}\n{"kind": "do', encoding="utf-8")
    Journal(path).write("facts")
    assert read(path) == [{"kind": "done"}, {"kind": "facts"}]


def test_names_choose_within_their_kind():
    checks, rows, sides = chosen(["gru", "kernel", "scan"])
    assert {case.cell for case in (*checks, *rows)} == {"gru"}
    assert {case.dtype for case in rows} == {"bfloat16", "float32", "float16"}
    assert sides == ("kernel", "scan")
    assert len(chosen([])[1]) == len(set(gpu.TIMED)) == 48
    assert {(c.B, c.H) for c in gpu.TIMED} >= set(gpu_report.FLOORS)


def test_without_a_gpu_nothing_is_measured(tmp_path, monkeypatch, capsys):
    results = tmp_path / "RESULTS.md"
    results.write_text("\n".join(MARKERS), encoding="utf-8")
    facts = {"kind": "facts", "backend": "cpu", "device": "cpu", "versions": {}}
    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "run", lambda plan, path: [facts])
    out = tmp_path / "out"
    gpu.main(["--out", str(out)])
    assert capsys.readouterr().out == "no GPU that JAX sees: nothing was measured\n"
    assert not out.exists()
    with pytest.raises(SystemExit, match=r"no GPU, so RESULTS\.md is as it was"):
        gpu.main(["--out", str(out), "--results"])
    assert results.read_text(encoding="utf-8") == "\n".join(MARKERS)
    with pytest.raises(SystemExit):
        gpu.main(["--only", "an lstm"])


def test_with_a_gpu_the_results_is_written(tmp_path, monkeypatch, capsys):
    results = tmp_path / "RESULTS.md"
    results.write_text("\n".join(MARKERS), encoding="utf-8")
    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "run", lambda plan, path: entries())
    plan = {"checks": PLAN.checks, "cases": PLAN.cases, "sides": SIDES}
    gpu.main(["--out", str(tmp_path), "--results"], **plan)
    assert "0.05 / -!" in results.read_text(encoding="utf-8")
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == capsys.readouterr().out
    raw = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert raw["times"][0]["microseconds_a_step"] == pytest.approx(2.0)
    assert raw["missing"][0]["reason"] == "not reached within 480 s"


def test_it_runs_on_a_cpu_when_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")  # put back what it sets
    case = Case("gru", "float32", 5, 2, 4)
    sides = ("kernel", "scan", "hoisted", "jax.experimental.rnn")
    plan = PLAN._replace(checks=(case,), cases=(case,), sides=sides)
    path = tmp_path / "journal"
    gpu_measure.serve(plan, path)
    assert [entry["kind"] for entry in read(path)] == ["facts"]
    gpu_measure.serve(plan._replace(anywhere=True), path)
    assert still_open(read(path)) == []
    report = Report.of(plan, read(path), FACTS)
    for engine in ENGINES:
        assert 0 < max(report.checks[case, engine]) < 1e-6
        assert len(report.times[case, engine, "forward"].seconds) == 1
        assert report.micros(case, engine, "gradient") > 0
        assert report.differences[case, engine] < 1e-6
    reasons = {why for (_, _, side, _), why in report.missing.items()}
    assert reasons == {"jax.experimental.rnn is cuDNN's, which needs a GPU"}
    assert "| gru float32 T=5 B=2 H=4" in story(report)
    assert "GRU" in results_text(report)


def test_whatever_is_raised_is_missing(tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.doing("time", CASE, "flax", "forward"):
        raise RuntimeError("out of memory\nand more")
    assert read(journal.path)[1]["reason"] == "RuntimeError: out of memory"
    with journal.doing("time", CASE, "flax", "forward"):
        raise ModuleNotFoundError("No module named 'flax'")
    assert read(journal.path)[4]["reason"] == "No module named 'flax'"
