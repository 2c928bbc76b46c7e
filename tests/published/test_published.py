"""Claims by name, and what is measured of them."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import recurrax as rx
from recurrax.published import CLAIMS, Claim, compared, stated
from recurrax.published.claim import absolute

NEAR = absolute(0.1)


def claim(name, measure=lambda: [compared("one", 1, 1.05, NEAR)], **options):
    return Claim(name, "a title", "a book", "a setting", measure, **options)


def test_every_claim_says_where_it_is_from():
    for name, one in CLAIMS.items():
        assert one.name == name
        assert name == name.lower()
        assert " " not in name
        for words in (one.title, one.source, one.setting):
            assert words == words.strip(), name
            assert len(words) > 8, name
            assert not words.endswith("."), name  # it is continued where it is printed
        assert len(one.title) < 100, name
        assert "\n" not in one.title + one.source + one.setting, name
    order = [one.long for one in CLAIMS.values()]
    assert order == sorted(order)  # what takes minutes comes last


def test_names_and_get():
    short, everything = rx.published.names(), rx.published.names(long=True)
    assert everything == tuple(CLAIMS)
    assert short == tuple(name for name in CLAIMS if not CLAIMS[name].long)
    assert rx.published.get("observers") is CLAIMS["observers"]
    message = (
        r"\Athere is no claim 'observer'; did you mean 'observers'\? There are chaotic-flows, "
    )
    with pytest.raises(ValueError, match=message):
        rx.published.get("observer")


def test_a_claim_of_ones_own_is_found_by_its_module(tmp_path, monkeypatch):
    (tmp_path / "mine_of_a_test.py").write_text(
        "from recurrax.published import Claim\n"
        "IT = Claim('mine', 'a title', 'a book', 'a setting', list)\nOTHER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert rx.published.get("mine_of_a_test:IT").name == "mine"
    with pytest.raises(ValueError, match=r"must be a rx.published.Claim, got int\Z"):
        rx.published.get("mine_of_a_test:OTHER")
    for name in ("mine_of_a_test:NOT", "no_such_module:IT", "no module:IT"):
        with pytest.raises(ValueError, match=rf"\Athere is no claim '{name}': "):
            rx.published.get(name)


def test_what_is_named_is_measured_once_in_its_order_and_told(monkeypatch):
    def forbidden():
        raise AssertionError("was measured")

    claims = {
        "first": claim("first", forbidden),
        "second": claim(
            "second", lambda: (stated(f"row {i}", i, i > 0, "above 0") for i in (0, 1))
        ),
        "slow": claim("slow", long=True),
    }
    monkeypatch.setattr(rx.published, "CLAIMS", claims)
    told = []
    found = rx.published.reproduce(["slow", "second", "slow", claims["second"]], tell=told.append)
    assert found == told
    assert [one.claim.name for one in found] == ["slow", "second"]
    assert [row.verdict for row in found[1].rows] == ["differs", "agrees"]
    assert (found[1].count("agrees"), found[1].count("not comparable")) == (1, 0)
    assert all(0 <= one.seconds < 60 for one in found)


def test_what_takes_minutes_needs_its_name_or_long(monkeypatch):
    claims = {"quick": claim("quick"), "slow": claim("slow", long=True)}
    monkeypatch.setattr(rx.published, "CLAIMS", claims)

    def measured(*args, **options):
        return [one.claim.name for one in rx.published.reproduce(*args, **options)]

    assert measured() == ["quick"]
    assert measured(long=True) == ["quick", "slow"]
    assert measured(["slow"]) == ["slow"]
    assert measured([]) == []


@pytest.mark.parametrize("user", [False, True])
def test_precision_is_the_claims_and_the_users_setting_stays(user):
    def seen():
        yield compared("dtype", 0, jnp.finfo(jnp.zeros(1).dtype).eps, NEAR)
        yield compared("later", 0, jnp.finfo(jnp.asarray(0.5).dtype).eps, NEAR)

    with jax.enable_x64(user):
        single, double = rx.published.reproduce([claim("a", seen), claim("b", seen, float64=True)])
        assert jax.config.jax_enable_x64 is user
    assert [row.ours for row in single.rows] == 2 * [float(jnp.finfo("float32").eps)]
    assert [row.ours for row in double.rows] == 2 * [float(jnp.finfo("float64").eps)]


def test_bad_input():
    with pytest.raises(TypeError, match=r"\Aclaims must be a list .*, got 'observers': put it in"):
        rx.published.reproduce("observers")
    with pytest.raises(TypeError, match=r"\Aa claim must be a rx.published.Claim or .*, got int\Z"):
        rx.published.reproduce([3])
    row = compared("one", 1, 1, NEAR)
    for wrong in (list, lambda: row, lambda: [row, 3], lambda: None):
        with pytest.raises(TypeError, match=r"\Ameasure\(\) of claim 'odd' must give rows"):
            rx.published.reproduce([claim("odd", wrong)])


def test_listing_the_claims_loads_nothing_heavy():
    code = (
        "import sys, recurrax as rx; rx.published.names()\n"
        "print({'optax', 'orbax', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
