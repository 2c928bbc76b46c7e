"""What a diagnosis says: tables and sentences on the terminal, the same in a page, and numbers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from recurrax.cli import console
from recurrax.cli.page import page, picture, sentence, table, text
from recurrax.diagnosis.records import count_text, rows_of
from recurrax.literal import visible
from recurrax.plot.diagnosis import panels

if TYPE_CHECKING:
    from recurrax.diagnosis import Diagnosis, LayerDiagnosis

_HEADINGS = ("measured", "value")


def print_diagnosis(found: Diagnosis) -> None:
    """Print one table a layer with what is wrong below it, and at the end all causes in a line."""
    screen = console.terminal()
    for layer in found.layers:
        title = visible(layer.name or "the model")
        console.print_table(title, _HEADINGS, rows_of(layer), left=_HEADINGS)
        for finding in layer.findings:
            screen.print(visible(str(finding)))
            if finding.code is not None:
                screen.print(textwrap.indent(finding.code, "    "), soft_wrap=True)
        screen.print()
    screen.print(visible(in_short(found)))


def in_short(found: Diagnosis) -> str:
    """Return what is most to blame in each layer, in one sentence."""
    causes: dict[str, list[str]] = {}
    for layer in sorted(found.layers, key=lambda layer: layer.healthy):
        causes.setdefault(layer.cause, []).append(layer.name or "the model")
    if len(causes) == 1 and len(found.layers) > 1:
        causes = {found.layers[0].cause: [f"all {len(found.layers)} layers"]}
    parts = [f"{cause} ({console.listed(names, 8)})" for cause, names in causes.items()]
    return f"In short: {'; '.join(parts)}."


def page_of(found: Diagnosis, title: str, notes: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the whole page, and a sentence for each picture that could not be drawn."""
    failed: list[str] = []
    heads = ("layer", "cell", "verdict", "horizon (steps)", "rate (nats a step)", "most to blame")
    rows = [
        (part.name, part.kind, part.verdict, count_text(part.horizon), part.rate, part.cause)
        for part in found.layers
    ]
    parts = [
        f"<p><strong>{text(in_short(found))}</strong></p>",
        table(heads, rows),
        f"<p>Fed: {text(found.data)}. Logs are natural; a nat is a factor of e.</p>",
        *(f"<p>{sentence(note)}.</p>" for note in notes),
        picture(lambda: panels(found), title, failed),
    ]
    for layer in found.layers:
        parts += [f"<h2>{text(layer.name or 'the model')}</h2>"]
        for finding in layer.findings:
            parts += [f"<p>{sentence(str(finding))}</p>"]
            if finding.code is not None:
                parts += [f"<pre>{text(finding.code)}</pre>"]
        parts += [table(_HEADINGS, rows_of(layer))]
    return page(title, parts), failed


def numbers_of(layer: LayerDiagnosis) -> dict[str, Any]:
    """Return all that was measured of a layer but its weights, for JSON."""
    numbers = layer._asdict()
    for name in ("cell", "params", "decay"):
        del numbers[name]
    numbers["log_norm"] = layer.decay.log_norm
    numbers["log_frobenius"] = layer.decay.log_frobenius
    return {"cause": layer.cause, **numbers}
