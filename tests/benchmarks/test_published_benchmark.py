"""The benchmark's own parts; the numbers themselves are tested where they are measured."""

from __future__ import annotations

import json
import re

from benchmarks import published


def document(jax: str, **claims: list) -> dict:
    told = {"title": "a title", "source": "a book", "setting": "a setting", "long": True}
    machine = {"device": "cpu (cpu)", "cores": 2, "python": "3.11.7"}
    return {
        **{"recurrax": "0.1.0", "jax": jax, "jaxlib": jax, "numpy": "2.4", **machine},
        "claims": {name: told | {"seconds": 61.6, "rows": rows} for name, rows in claims.items()},
    }


def row(published: object, ours: object, ends: list | None, verdict: str) -> dict:
    words = {"tolerance": "+- 1", "verdict": verdict, "note": "|x| is 1"}
    return {"what": "it", "published": published, "ours": ours, "range": ends} | words


def test_a_row_for_each_number_and_the_last_of_several_files(tmp_path, capsys):
    first = document(
        "1.2", a=[row(1.0, 5.0, None, "differs")], b=[row("nan", "nan", None, "differs")]
    )
    second = document("1.3", a=[row(74000.0, 3.25, [3.25, 4.5], "agrees")])
    second["claims"]["newton-steps"] = second["claims"]["a"] | {"rows": []}
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, content in zip(files, (first, second), strict=True):
        file.write_text(json.dumps(content))
    published.main(["--read", *map(str, files)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].partition(": ")[2].startswith("1 agrees, 1 differs. ")
    assert "range. Claims that were not run: chaotic-flows, observers, " in lines[0]
    assert "newton-steps" not in re.findall(r"[\w-]+", lines[0])
    assert lines[2] == "- a, 62 s, with `--long`: a title. Source: a book. Here: a setting."
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines[8:10]]
    assert [row[1:6] for row in rows] == [
        ["it", "74,000", "3.25 (3.25 to 4.5)", "+- 1", "agrees"],
        ["it", "in words", "nan", "+- 1", "differs"],
    ]
    assert rows[0][6].startswith("\\|x\\| is 1")
    assert lines[-1].count("cpu (cpu), 2 cores") == 2
