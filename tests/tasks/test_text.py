"""The next byte of a file: windows, the split in time, the baseline, files that will not do."""

from __future__ import annotations

import re

import close
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx


@pytest.fixture
def file(tmp_path):
    """The 103 highest bytes in order, so that a place can be told."""
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(153, 256)))
    return path


def test_windows_are_the_file_cut_in_two_and_then_in_pieces(file):
    split = rx.tasks.text(file, T=7, validation=0.3).split()
    content = file.read_bytes()
    train = int(103 * 0.7)
    for part, batch in ((content[:train], split.train), (content[train:], split.test)):
        read = b"".join(bytes(window) for window in batch.xs.T)
        follow = b"".join(bytes(window) for window in batch.targets.T)
        assert part.startswith(read)
        assert part[1:].startswith(follow)
        assert len(part) - 1 - len(read) < 7  # no whole window is left
        assert (batch.weights == 1).all()
        assert {leaf.dtype for leaf in jax.tree.leaves(batch)} == {np.dtype(np.uint8)}


def test_inputs_are_one_hot_rows(file, key):
    task = rx.tasks.text(file, T=7, validation=0.3)
    batch = task.draw(key, 4, task.split().train)
    assert np.array_equal(batch.xs.sum(-1), np.ones((7, 4)))
    read, targets = np.asarray(batch.xs.argmax(-1)), np.asarray(batch.targets)
    np.testing.assert_array_equal(targets, read + 1)  # bytes in the file count upwards


def test_a_byte_of_the_file_takes_three(tmp_path):
    """Megabytes of text stay megabytes: what is stored is no row of 256 floats a byte."""
    path = tmp_path / "long.txt"
    path.write_bytes(bytes(1_000_000))
    split = rx.tasks.text(path, T=100).split()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(split)) <= 3_000_000


def test_the_task_is_what_the_text_is(file):
    task = rx.tasks.text(file, T=5)
    before = task.split()
    file.write_bytes(bytes(103))
    close.assert_same(task.split(), before)
    changed = rx.tasks.text(file, T=5)
    assert changed != task
    assert "\\x00" not in repr(changed)
    assert len(repr(changed)) < 1000


def test_frequencies_of_the_training_part_reach_the_baseline(tmp_path):
    path = tmp_path / "words.txt"
    rng = np.random.default_rng(0)
    path.write_bytes(
        rng.choice(list(b"aaabbc de"), 900).astype(np.uint8).tobytes() + b"zebra zebra " * 10
    )
    task = rx.tasks.text(path, T=9)
    content = path.read_bytes()
    counts = np.ones(256)
    for byte in content[: int(len(content) * 0.9)]:
        counts[byte] += 1
    split = task.split()
    batch = task.take(split.test, jnp.arange(split.test.xs.shape[1]))
    logits = np.log(counts).astype(np.float32)
    outputs = np.broadcast_to(logits, (*batch.targets.shape, 256))
    baseline = dict(task.baseline)
    np.testing.assert_allclose(task.loss(outputs, batch), baseline["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        task.metrics(outputs, batch)["bits_per_byte"], baseline["bits_per_byte"], rtol=1e-5
    )
    assert baseline["bits_per_byte"] > 4  # z was not there before


def test_a_text_is_never_solved(file):
    assert not rx.tasks.text(file, T=5).solved({"bits_per_byte": 0.0})


# --- files that will not do ---------------------------------------------------------------------


def test_too_short(file):
    with close.says(
        ValueError,
        f"path {str(file)!r} is too short for T = 20: with validation = 0.1 its 103 bytes are 92 "
        "for training and 11 for testing, and each part needs T + 1 = 21. Give a longer file or a "
        "smaller T.",
    ):
        rx.tasks.text(file, T=20)
    rx.tasks.text(file, T=10)  # 11 bytes are one window


def test_missing_empty_and_no_file(tmp_path):
    missing = tmp_path / "no.txt"
    with close.says(FileNotFoundError, f"path {str(missing)!r}: no such file"):
        rx.tasks.text(missing)
    with close.says(ValueError, f"path {str(tmp_path)!r} is a folder; name a file in it"):
        rx.tasks.text(tmp_path)
    missing.touch()
    with close.says(ValueError, f"path {str(missing)!r} is empty; give a file with text in it"):
        rx.tasks.text(missing)
    with close.says(TypeError, "path must name a text file, got 3"):
        rx.tasks.text(3)
    with pytest.raises(ValueError, match=re.escape("cannot be read (")):
        rx.tasks.text(f"{tmp_path}/no.txt/below")


@pytest.mark.parametrize("validation", [0, 1, -0.1, 1.5])
def test_parts_that_are_none(file, validation):
    with close.says(
        ValueError, f"validation must be between 0 and 1, such as 0.1; got {validation}"
    ):
        rx.tasks.text(file, validation=validation)


def test_numbers_that_are_none(file):
    with close.says(ValueError, "T must be a positive integer, got 0"):
        rx.tasks.text(file, T=0)
    with close.says(TypeError, "validation must be a number, got None"):
        rx.tasks.text(file, validation=None)
