"""Every public name has a docstring, and the examples in it run and print what they say."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import types
import typing

import jax
import pytest

import recurrax as rx

PACKAGES = ["recurrax"] + [
    f"recurrax.{info.name}" for info in pkgutil.iter_modules(rx.__path__) if info.ispkg
]


def public(package: str) -> dict[str, object]:
    """What a package lists in `__all__`, modules aside."""
    module = importlib.import_module(package)
    named = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {name: it for name, it in named.items() if not isinstance(it, types.ModuleType)}


def is_alias(it: object) -> bool:
    """A name for a type: it cannot hold a docstring of its own."""
    return typing.get_origin(it) is not None


def is_plain_record(it: object) -> bool:
    """A NamedTuple, Protocol or exception: its fields say what it is, and nothing is run."""
    return isinstance(it, type) and (
        issubclass(it, tuple | BaseException) or getattr(it, "_is_protocol", False)
    )


def examples(package: str, name: str, it: object) -> list[doctest.DocTest]:
    doc = inspect.cleandoc(it.__doc__ or "")
    namespace = {"__name__": "__main__"}
    found = doctest.DocTestParser().get_doctest(doc, namespace, f"{package}.{name}", None, 0)
    return [found] if found.examples else []


PUBLIC = [
    pytest.param(package, name, id=f"{package}.{name}")
    for package in PACKAGES
    for name in public(package)
]


def test_every_listed_name_is_there_once():
    for package in PACKAGES:
        listed = getattr(importlib.import_module(package), "__all__", [])
        assert len(listed) == len(set(listed)), package
    names = {value.values[1] for value in PUBLIC}
    assert {"unroll", "gated_cell", "lstm", "lstm_step", "decay", "bidirectional"} <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is(package):
    doc = importlib.import_module(package).__doc__ or ""
    assert doc.partition("\n")[0].endswith(".")


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_a_public_name_is_documented(package, name):
    it = public(package)[name]
    if is_alias(it):
        return
    doc = it.__doc__ or ""
    inherited = isinstance(it, type) and "__doc__" not in vars(it)
    written_by_python = isinstance(it, type) and doc.startswith(f"{it.__name__}(")
    assert doc.strip(), "no docstring"
    assert not inherited
    assert not written_by_python
    assert doc.strip().splitlines()[0].endswith(".")
    if not is_plain_record(it):
        assert examples(package, name, it), "no example"


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_examples_run(package, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    it = public(package)[name]
    if is_alias(it):
        return
    for example in examples(package, name, it):
        said: list[str] = []
        failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
        assert tried
        assert not failed, "".join(said)
    assert jax.config.jax_enable_x64 is False  # no example leaves its configuration behind


def test_a_wrong_example_is_seen():
    """The runner above fails on an output that does not come."""

    def wrong():
        """One line.

        >>> 1 + 1
        3
        """

    (example,) = examples("here", "wrong", wrong)
    failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None)
    assert (failed, tried) == (1, 1)


def test_a_step_has_a_docstring_of_its_own():
    """A step is an instance: its docstring is not that of its class."""
    assert dataclasses.is_dataclass(rx.cells.lstm_step)
    assert rx.cells.lstm_step.__doc__ != rx.GatedStep.__doc__
