"""Checkpoints by orbax: whole or not there at all, and known to be right before they are used.

    directory/checkpoints/00001000/    arrays/ (orbax's), about/ (JSON: step, identity, digest)

Orbax writes to a name of its own and moves the folder into place when it is complete, so a process
killed at any moment leaves what was there before. What a disk or a hand may damage later is found
by the digest. It covers the ledger of the history as well, by which damage to its rows is found.
Its `CheckpointManager` is not used: while a folder of a later step lies there, damaged or not, it
saves nothing and says nothing, and it counts that folder among those that it keeps.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import stat
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.interop import describe
from recurrax.interop.disk import remove, set_aside, there
from recurrax.train.source import is_key
from recurrax.words import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from recurrax.train.history import Ledger
    from recurrax.train.loop import Carry

_FORMAT = "recurrax-checkpoint-2"
_BEFORE = "recurrax-checkpoint-1"  # when step n drew its batch with fold_in(key, n)
_LEDGER = "history"  # among the arrays, whose names otherwise are those of a carry
_KEPT = 3
_OLD = ".old"
_ROOM = 1 << 27  # bytes of a checkpoint beyond twice its arrays, for what orbax and the ledger need
_NAME = re.compile(r"[0-9]{8,}")
_LEFTOVER = re.compile(r"[0-9]{8,}(\.old|\.orbax-checkpoint-tmp.*)")  # of a process that was killed


class Loaded(NamedTuple):
    """What a checkpoint holds."""

    carry: Carry
    solved: bool
    ledger: Ledger  # of the history up to it
    truncate: int | None = None  # steps of a chunk in force, where they were chosen on the way


def identity(
    params: Any,
    task: Any,
    batch_size: int | None,
    penalised: bool = False,
    truncate: int | str | None = None,
) -> dict[str, str]:
    """Return in words what must be the same for a run to go on from a checkpoint.

    Args:
      params: of the cell.
      task: a `Task`, or None for the user's own batches.
      batch_size: B of a task's batches.
      penalised: whether a regularizer is added to the loss.
      truncate: as `fit` takes it.
    """
    description = describe(params)
    name, size = "batches of your own", "their own"
    if task is not None:
        name = f"{task.name} (T={task.length}, I={task.input_size}, O={task.output_size})"
        size = str(batch_size)
    return {
        "cell": checks.show(params) if description is None else json.dumps(description),
        "task": name,
        "batch_size": size,
        "regularizer": "one" if penalised else "none",
        "truncate": "none" if truncate is None else str(truncate),
    }


@dataclasses.dataclass(frozen=True)
class Store:
    """The checkpoints of one run."""

    directory: Path
    identity: dict[str, str]

    def used(self) -> bool:
        """Return whether the directory holds a run."""
        return bool(self.paths()) or there(self.directory / "history.jsonl")

    def paths(self) -> list[Path]:
        """Return whatever has a checkpoint's name, oldest first.

        Raises:
          ValueError: if their folder is none.
        """
        folder = self.directory / "checkpoints"
        if not there(folder):
            return []
        try:
            found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError as error:
            raise ValueError(
                f"{folder} must be a folder of checkpoints, but cannot be read as one "
                f"({error.strerror}). Move it away, or name another directory; nothing was "
                "written over."
            ) from None
        return sorted(found, key=lambda path: int(path.name))

    def save(self, carry: Carry, solved: bool, ledger: Ledger, truncate: int | None = None) -> None:
        """Write a checkpoint, and drop all but the last few up to it."""
        pairs = [(step, int(seal, 16)) for step, seal in ledger]
        found = arrays(carry) | {_LEDGER: np.array(pairs, np.uint64).reshape(-1, 2)}
        stored = {name: array for name, array in found.items() if array.size}  # as orbax wants
        words = {
            "format": _FORMAT,
            "step": int(found["step"]),
            "identity": self.identity,
            "solved": solved,
            "truncate": truncate,
            "names": list(stored),
            "empty": {name: [str(a.dtype), [*a.shape]] for name, a in found.items() if not a.size},
        }
        folder = self.directory / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                remove(path)
        new = folder / f"{words['step']:08d}"
        if there(new):  # damaged, and training went through it again
            set_aside(new)
            remove(new)
        write(new, words, stored)
        done = [path for path in self.paths() if int(path.name) <= int(new.name)]
        for old in done[:-_KEPT]:
            gone = old.with_name(old.name + _OLD)
            old.replace(gone)  # at once, so that none is there in part
            remove(gone)

    def newest(self, like: Carry) -> Loaded | None:
        """Return the last checkpoint that is right; None if there is none at all.

        One that is damaged is named in a warning, and the one before is taken.

        Raises:
          ValueError: if it is another run's, or all are damaged.
        """
        paths = self.paths()
        most = _ROOM + 2 * sum(array.nbytes for array in arrays(like).values())
        for path in reversed(paths):
            try:
                _check_files(path, most)
                words, found = _read(path)
            except ImportError:
                raise
            except Exception as error:  # orbax and its parts have many for a damaged folder
                reason = f"{type(error).__name__}: {first_line(error)[:120] or 'no message'}"
                warnings.warn(
                    f"checkpoint {path} is damaged and left aside ({reason})", stacklevel=3
                )
                continue
            if words["format"] == _BEFORE:
                raise ValueError(
                    f"checkpoint {path} is of an earlier version of recurrax, which drew its "
                    "batches from other random keys and kept no account of the history: going on "
                    "would not be the same run. Resume it with that version, or name another "
                    "directory; nothing was written over."
                )
            ledger = [(step, f"{seal:016x}") for step, seal in found.pop(_LEDGER).tolist()]
            other = _another(words["identity"], self.identity) or _unlike(found, arrays(like))
            if other is not None:
                raise ValueError(
                    f"checkpoint {path} is of another {other}. Resume with what it was trained "
                    "with, or name another directory; nothing was written over."
                )
            carry, solved = _rebuilt(like, found), bool(words["solved"])
            return Loaded(carry, solved, ledger, words.get("truncate"))
        if paths:
            raise ValueError(
                f"no checkpoint in {self.directory / 'checkpoints'} can be read. Name another "
                "directory to begin anew; nothing was written over."
            )
        return None


def _another(theirs: dict[str, str], ours: dict[str, str]) -> str | None:
    """Return what is another one in the identity of a run, if anything."""
    theirs = {"truncate": "none"} | theirs  # of a version that did not know it
    for name in ours:
        if theirs[name] != ours[name]:
            return f"{name}: it was trained with {theirs[name]}, and this run is {ours[name]}"
    return None


def _unlike(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str | None:
    """Return what is another one by the arrays of a carry, if anything."""
    for name in [*expected, *found]:
        theirs, ours = (
            checks.show(of[name]) if name in of else "missing" for of in (found, expected)
        )
        if theirs != ours:
            part = "optimizer" if name.startswith("opt_state") else "network"
            part = "kind of batches" if name.startswith("state") else part
            return f"{part}: its {name} is {theirs}, and this run's is {ours}"
    if not np.array_equal(found["key"], expected["key"]):
        return "key, so its batches are not those of this run"
    return None


# --- a carry as arrays ----------------------------------------------------------------------------


def arrays(carry: Carry) -> dict[str, np.ndarray]:
    """Return every leaf by its name, on the host; random keys as the integers inside."""
    return {
        checks.leaf_name("", path).lstrip("."): np.asarray(
            jax.random.key_data(leaf) if is_key(leaf) else leaf
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(carry._replace(watched=None))
    }


def _rebuilt(like: Carry, found: dict[str, np.ndarray]) -> Carry:
    """Return the carry whose `arrays` are these."""
    leaves, structure = jax.tree.flatten(like)
    values: list[Any] = [found[name] for name in arrays(like)]
    for i, leaf in enumerate(leaves):
        if is_key(leaf):
            impl = jax.random.key_impl(leaf)
            values[i] = jax.random.wrap_key_data(jnp.asarray(values[i]), impl=impl)
    carry: Carry = jax.tree.unflatten(structure, values)
    return carry


# --- the files ------------------------------------------------------------------------------------


def write(path: Path, words: dict[str, Any], found: dict[str, np.ndarray]) -> None:
    """Write words that JSON can hold, and arrays that are not empty, with a digest of both."""
    ocp, checkpointer = _orbax()
    numbered = {str(i): array for i, array in enumerate(found.values())}
    about = words | {"digest": _digest(words, found)}
    args = ocp.args.Composite(arrays=ocp.args.PyTreeSave(numbered), about=ocp.args.JsonSave(about))
    checkpointer.save(path, args=args)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return words and arrays, proven by the digest."""
    ocp, checkpointer = _orbax()
    args = ocp.args.Composite(about=ocp.args.JsonRestore())
    words = checkpointer.restore(path, args=args).about
    seal = words.pop("digest")
    # One by one: of several reads at once, one that fails would leave the others without an owner.
    found = {}
    for i, name in enumerate(words["names"]):
        as_numpy = {str(i): ocp.RestoreArgs(restore_type=np.ndarray)}
        wanted = ocp.args.PyTreeRestore({str(i): 0}, restore_args=as_numpy, partial_restore=True)
        numbered = checkpointer.restore(path, args=ocp.args.Composite(arrays=wanted)).arrays
        found[name] = np.asarray(numbered[str(i)])
    if _digest(words, found) != seal:
        raise ValueError("its contents are not those that were written")
    if words["format"] not in (_BEFORE, _FORMAT):
        raise ValueError(f"its format is {words['format']}, this version reads {_FORMAT}")
    for name, (dtype, shape) in words["empty"].items():
        found[name] = np.zeros(shape, dtype)
    return words, found


def _digest(words: dict[str, Any], found: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of words and arrays: names, dtypes, shapes and every bit."""
    seal = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, array in found.items():
        seal.update(f"{name} {array.dtype} {array.shape} ".encode())
        seal.update(np.ascontiguousarray(array).tobytes())
    return seal.hexdigest()


def _check_files(path: Path, most: int) -> None:
    """Raise for what could not be read in any time: a pipe, a device, more than `most` bytes."""
    if not path.is_dir():
        raise ValueError("it is no folder")
    size = 0
    for entry in path.rglob("*"):
        found = entry.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise ValueError(f"its {entry.name} is no file")
        size += found.st_size
    if size > most:
        raise ValueError(f"it has {size} bytes, more than any of this run")


def check_directory(path: Path) -> None:
    """Raise unless checkpoints can be written there and read again; before a step is taken.

    Raises:
      ValueError: if it is no folder, and none that can be made, or has a name that orbax mistakes.
      ImportError: if orbax is not installed.
    """
    # Orbax takes [ * ? for a pattern and what ends in a colon for a protocol, and could
    # not read again what it wrote; its files have names in UTF-8.
    strange = any(sign in f"{path}/" for sign in ("[", "*", "?", ":/"))
    if strange or str(path).encode("utf-8", "ignore").decode() != str(path):
        raise ValueError(
            "directory must have a path in UTF-8, without any of [ * ? and no part of which ends "
            f"in a colon, so that its checkpoints can be read again; got {str(path)!r}"
        )
    nearest = next(folder for folder in (path, *path.parents) if there(folder))
    if not nearest.is_dir():
        raise ValueError(f"directory must be a folder, but {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"directory must be a folder that can be written, {nearest} cannot")
    _orbax()


def _orbax() -> tuple[Any, Any]:
    """Return orbax and a checkpointer of this process alone, which saves before it returns."""
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise ImportError("checkpoints need orbax: pip install 'recurrax[train]'") from None
    here = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"recurrax{here}"
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    return ocp, ocp.Checkpointer(handler, multiprocessing_options=options)
