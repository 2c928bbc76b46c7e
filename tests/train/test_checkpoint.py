"""Stopped, damaged, mistaken for another, and gone on from."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import sys
import warnings

import jax
import jax.numpy as jnp
import optax
import pytest
from close import says
from train.small import CELL, DATA, KEY, TASK, fit, loss, same, without_speed

import recurrax as rx
from recurrax.train import checkpoint
from recurrax.train.checkpoint import Store, arrays, identity
from recurrax.train.loop import Carry


def names(directory):
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path):
    noisy = optax.chain(optax.add_noise(0.01, 0.5, jax.random.key(7)), optax.adam(0.01))
    options = {"optimizer": noisy, "flow_every": 4}
    whole = fit(14, **options)
    fit(6, directory=tmp_path, checkpoint_every=4, **options)
    found = fit(14, directory=tmp_path, checkpoint_every=4, resume=True, **options)
    assert same(found.params, whole.params)
    assert same(found.opt_state, whole.opt_state)
    assert found.step == 14
    assert names(tmp_path) == ["00000008", "00000012", "00000014"]
    again = fit(14, directory=tmp_path, resume=True, **options)
    assert same(again.params, found.params)
    assert same(again.history, found.history)


def test_data_and_batches_of_ones_own(tmp_path):
    def batches():
        return (TASK.draw(jax.random.fold_in(KEY, n), 8) for n in range(10))

    own = {"cell": rx.train.network(CELL, 1), "loss": loss}
    for name, task, options in (("data", lambda: DATA, {}), ("own", batches, own)):
        directory = tmp_path / name
        whole = fit(10, task=task(), **options)
        fit(5, task=task(), directory=directory, **options)
        found = fit(10, task=task(), directory=directory, resume=True, **options)
        assert same(found.params, whole.params), name
    text = (
        "task, an iterable, ended after 2 batches, but 10 steps are done already. To resume, give "
        "one that begins where the first run began."
    )
    with says(ValueError, text):
        fit(12, task=list(batches())[:2], directory=directory, resume=True, **own)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves(tmp_path):
    def pressing():
        for n in range(100):
            if n == 5:
                signal.raise_signal(signal.SIGINT)
            yield TASK.draw(jax.random.fold_in(KEY, n), 8)

    own = {"cell": rx.train.network(CELL, 1), "loss": loss, "directory": tmp_path}
    with pytest.raises(rx.train.Interrupted) as caught:
        fit(50, task=pressing(), **own)
    reached = caught.value.fit.step
    assert str(caught.value) == (
        f"training was stopped after {reached} of 50 steps. They are saved in {tmp_path}: the same "
        "call with resume=True goes on."
    )
    assert names(tmp_path)[-1] == f"{reached:08d}"


def test_a_solved_run_stays_solved(tmp_path):
    easy = dataclasses.replace(TASK, goal=("mse", "<", 1e3))
    options = {"task": easy, "directory": tmp_path, "stop_when_solved": True}
    first = fit(12, **options)
    again = fit(12, resume=True, **options)
    assert (again.step, again.solved) == (4, True)
    assert same(again.params, first.params)


def test_resume_begins_where_there_is_nothing(tmp_path):
    assert same(fit(4, directory=tmp_path / "new", resume=True).params, fit(4).params)


@pytest.fixture
def run(tmp_path):
    """A directory with checkpoints of steps 2, 4 and 6."""
    fit(6, directory=tmp_path, checkpoint_every=2)
    return tmp_path


def spoil(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.unlink()


def test_every_file_cut_flipped_or_gone(run, tmp_path):
    """Each file of a checkpoint in turn: right params, whether it mattered or not."""
    params = rx.train.network(CELL, 1).init(KEY)
    like = Carry(params, fit(1).opt_state, KEY, jnp.int32(0))
    store = Store(run, identity(params.cell, TASK, 8))
    right = {n: fit(n).params for n in (4, 6)}
    keep = run / "kept"
    newest = run / "checkpoints" / "00000006"
    shutil.copytree(newest, keep)
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file()]
    named = 0
    for file in files:
        for how in ("cut", "flipped", "gone"):
            spoil(newest / file, how)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loaded = store.newest(like).carry
            named += len(caught)
            assert all(str(newest) in str(warning.message) for warning in caught)
            assert int(loaded.step) == (4 if caught else 6), (file, how)
            assert same(loaded.params, right[int(loaded.step)]), (file, how)
            shutil.rmtree(newest)
            shutil.copytree(keep, newest)
    assert named >= 6  # some files hold nothing that is read


def test_a_damaged_one_is_named_and_the_one_before_is_used(run):
    newest = run / "checkpoints" / "00000006"
    spoil(next((newest / "about").glob("metadata")), "cut")
    with pytest.warns(UserWarning, match=rf"\Acheckpoint {re.escape(str(newest))} is damaged and"):
        found = fit(8, directory=run, checkpoint_every=2, resume=True)
    assert same(found.params, fit(8).params)
    assert same(fit(8, directory=run, resume=True).params, found.params)
    assert without_speed(found.history)["step"].tolist() == [2, 4, 6, 8]


def test_all_are_damaged(run):
    for path in (run / "checkpoints").iterdir():
        shutil.rmtree(path / "arrays")
    before = contents(run)
    text = (
        f"no checkpoint in {run / 'checkpoints'} can be read. Name another directory to begin "
        "anew; nothing was written over."
    )
    with pytest.warns(UserWarning, match="is damaged"), says(ValueError, text):
        fit(8, directory=run, resume=True)
    assert contents(run) == before


def test_what_a_killed_process_leaves_is_cleared_away(run):
    left = [
        run / "checkpoints" / name for name in ("00000008.orbax-checkpoint-tmp-1", "00000002.old")
    ]
    for path in left:
        path.mkdir()
    files = [
        run / "checkpoints" / name for name in ("00000008.orbax-checkpoint-tmp", "00000004.old")
    ]
    mine = run / "checkpoints" / "notes.old"
    for path in (*files, mine):
        path.write_text("of mine")
    found = fit(8, directory=run, resume=True)
    assert found.step == 8
    assert not any(path.exists() for path in (*left, *files))
    assert mine.read_text() == "of mine"


class TestOthers:
    """Another run's checkpoint: one sentence, and nothing is written over."""

    def refused(self, run, text, **options):
        before = contents(run)
        newest = run / "checkpoints" / "00000006"
        whole = (
            f"checkpoint {newest} is of {text}. Resume with what it was trained with, or name "
            "another directory; nothing was written over."
        )
        with says(ValueError, whole):
            fit(9, directory=run, resume=True, **options)
        assert contents(run) == before

    def test_cells(self, run):
        text = (
            'another cell: it was trained with {"family": "elman", "input_size": 2, "hidden_size": '
            '3}, and this run is {"family": "gru", "input_size": 2, "hidden_size": 3}'
        )
        self.refused(run, text, cell=rx.cells.gru(2, 3))

    def test_tasks(self, run):
        text = (
            "another task: it was trained with adding (T=4, I=2, O=1), and this run is adding "
            "(T=5, I=2, O=1)"
        )
        self.refused(run, text, task=rx.tasks.adding(5))

    def test_batch_sizes(self, run):
        text = "another batch_size: it was trained with 8, and this run is 4"
        self.refused(run, text, batch_size=4)

    def test_optimizers(self, run):
        text = (
            "another optimizer: its opt_state[0].trace.cell.w_in is missing, and this run's is "
            "float32[2,3]"
        )
        self.refused(run, text, optimizer=optax.sgd(0.1, momentum=0.9))

    def test_dtypes(self, run):
        text = (
            "another network: its params.cell.w_in is float32[2,3], and this run's is bfloat16[2,3]"
        )
        self.refused(run, text, cell=rx.cells.elman(2, 3, dtype=jnp.bfloat16))

    def test_keys(self, run):
        text = "another key, so its batches are not those of this run"
        self.refused(run, text, key=jax.random.key(4))

    def test_a_directory_that_is_used(self, run):
        before = contents(run)
        text = (
            f"directory {run} holds a run already. resume=True goes on with it; another directory "
            "begins anew. Nothing was written over."
        )
        with says(ValueError, text):
            fit(9, directory=run)
        assert contents(run) == before


def as_before(store, like):
    """Its newest checkpoint as the first format had it, when batches came of other keys."""
    carry, solved, *_ = store.newest(like)
    found, path = arrays(carry), store.paths()[-1]
    about = {
        "format": "recurrax-checkpoint-1",
        "step": int(carry.step),
        "identity": store.identity,
        "solved": solved,
        "names": list(found),
        "empty": {},
    }
    shutil.rmtree(path)
    checkpoint.write(path, about, found)
    return path


def test_a_checkpoint_of_other_keys_is_refused(run):
    start = fit(1)
    like = Carry(start.params, start.opt_state, KEY, jnp.int32(0))
    path = as_before(Store(run, identity(like.params.cell, TASK, 8)), like)
    before = contents(run)
    text = (
        f"checkpoint {path} is of an earlier version of recurrax, which drew its batches from "
        "other random keys and kept no account of the history: going on would not be the same "
        "run. Resume it with that version, or name another directory; nothing was written over."
    )
    with says(ValueError, text):
        fit(9, directory=run, resume=True)
    assert contents(run) == before


def test_a_checkpoint_from_before_there_was_truncation_is_gone_on_from(tmp_path):
    fit(4, directory=tmp_path)
    path = tmp_path / "checkpoints" / "00000004"
    words, found = checkpoint._read(path)
    del words["truncate"], words["identity"]["truncate"]
    shutil.rmtree(path)
    checkpoint.write(path, words, {name: found[name] for name in words["names"]})
    again = fit(8, directory=tmp_path, resume=True)
    assert same(again.params, fit(8).params)


def test_leaves_that_orbax_does_not_hold(tmp_path):
    """No entries, random keys, bfloat16, 64 bits, flags."""
    like = Carry(
        {"a": jnp.zeros((0, 3)), "b": jnp.ones(2, jnp.bfloat16)},
        (jax.random.key(5), jnp.array([True, False]), jax.random.split(jax.random.PRNGKey(1))),
        jax.random.key(3, impl="rbg"),
        jnp.int32(7),
    )
    store = Store(tmp_path, identity(like.params, None, None))
    ledger = [(3, "0" * 16), (2**53 + 1, "f" * 16)]
    store.save(like, True, ledger)
    loaded = store.newest(like)
    assert (loaded.solved, loaded.ledger) == (True, ledger)
    assert same(loaded.carry, like)


def test_orbax_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with says(ImportError, "checkpoints need orbax: pip install 'recurrax[train]'"):
        fit(2, directory=tmp_path)
