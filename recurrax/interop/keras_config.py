"""What a Keras configuration says of a layer that its weights do not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.interop.layouts.candidates import Found

NO_MERGE = "none"  # a Bidirectional that gives its two outputs apart


class Said(NamedTuple):
    """None for what is not said."""

    activation: Any = None  # a word, or a function's own configuration
    recurrent_activation: Any = None
    reset_after: bool | None = None
    go_backwards: bool | None = None
    merge_mode: str | None = None

    def function(self, name: str, found: Found) -> str:
        """The function under a name, for all a cell of the library can have.

        Raises:
          ValueError: if it is another one, or an RNN's that is not said.
        """
        value = getattr(self, name)
        if found.kind == "elman":
            known: tuple[str, ...] = ("tanh", "relu")
            if value is None:
                raise ValueError(
                    f"{found.prefix!r} is a SimpleRNN without its configuration, and the weights "
                    'do not say of which activation: give activation="tanh" (Keras\' default) or '
                    '"relu"'
                )
        else:
            known = ("tanh" if name == "activation" else "sigmoid",)
            value = known[0] if value is None else value
        if value not in known:
            raise ValueError(
                f"{found.prefix!r} has {name}={_name(value)!r}, but a recurrax {found.kind} has "
                f"{' or '.join(known)}; write a cell of your own with rx.gated_cell"
            )
        return str(value)

    def check_directions(self, found: Found) -> None:
        """Refuse what reads its inputs in an order that no cell has, or joins no outputs."""
        if self.go_backwards and found.directions == 1:
            raise ValueError(
                f"{found.prefix!r} reads its inputs from the last one (go_backwards=True), which "
                "is no part of a cell: give go_backwards=False and unroll it over xs[::-1]; its "
                "outputs then come in Keras' order"
            )
        if self.go_backwards:
            raise ValueError(
                f"the forward layer of {found.prefix!r} has go_backwards=True, so its outputs come "
                "in another order than those of the backward one: build it the other way round"
            )
        if self.merge_mode not in (None, "concat", "sum", "mul", "ave"):
            raise ValueError(
                f"{found.prefix!r} has merge_mode={self.merge_mode!r}, but both directions are "
                'joined by "concat", "sum", "mul" or "ave": give one as merge_mode='
            )


def what_is_said(model: Any, path: str, name: str) -> tuple[int, list[Said]]:
    """Of the layer with this path or name: its place in the model, and its one or two cells."""
    at = 0
    try:
        for at, (place, node) in enumerate(_walk(model, "")):
            if path == place or node["config"].get("name") == name:
                return at, _said(node)
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"what the configuration says of {name!r} is damaged") from None
    return at + 1, [Said()]


def _walk(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every layer of a model, with its place as Keras writes it: by class, counted from 0."""
    if not isinstance(node, dict) or "class_name" not in node:
        return
    config = node.get("config")
    layers = config if isinstance(config, list) else (config or {}).get("layers", [])
    if isinstance(config, dict):
        yield place, node
    inner = config.get("cell") if isinstance(config, dict) else None
    for cell in config.get("cells", [inner]) if isinstance(config, dict) else ():
        yield from _walk(cell, f"{place}/cell")
    seen: dict[str, int] = {}
    for child in layers:
        if not isinstance(child, dict):
            continue
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(child.get("class_name"))).lower()
        count = seen[word] = seen.get(word, -1) + 1
        below = f"layers/{word}_{count}" if count else f"layers/{word}"
        yield from _walk(child, f"{place}/{below}".lstrip("/"))


def _said(node: dict[str, Any]) -> list[Said]:
    config = node["config"]
    if node["class_name"] == "Bidirectional":
        merge = config.get("merge_mode", "concat")
        sides = [config["layer"], config.get("backward_layer") or config["layer"]]
        both = [
            _said(side)[0]._replace(merge_mode=NO_MERGE if merge is None else merge)
            for side in sides
        ]
        return [both[0], both[1]._replace(go_backwards=False)]
    inner = config.get("cell")
    cell = inner["config"] if isinstance(inner, dict) and "config" in inner else config
    said = {field: cell.get(field) for field in Said._fields[:3]}
    return [Said(**said, go_backwards=config.get("go_backwards"))]


def _name(value: Any) -> Any:
    """What a function is called whose configuration stands there in the place of a word."""
    if isinstance(value, dict):
        inner = value.get("config")
        return inner if isinstance(inner, str) else value.get("class_name", value)
    return value
