"""The search, on functions whose roots are known."""

from __future__ import annotations

import math

import pytest

from recurrax.cures.calibration.root import Range, Unreachable, find_root

FACTORS, BIASES = Range(1 / 64, 64.0), Range(-8.0, 8.0)


def search(careful, range_=FACTORS, present=1.0, target=0.0, quick=None, slack=0.05):
    """Find the root, and count how often the careful function was asked."""
    asked = []

    def counted(number):
        asked.append(number)
        return careful(number)

    given = quick or careful, counted, range_, present, target
    return find_root(*given, slack=slack, allowed=lambda _: 1e-3), len(asked)


@pytest.mark.parametrize("root", [0.02, 0.5, 1.0, 1.86, 63.0])
def test_one_root(root):
    found, count = search(lambda g: math.log(g / root))
    assert found.number == pytest.approx(root, rel=1e-4)
    assert found.others == ()
    assert count < 8


def test_a_rate_that_is_not_zero():
    found, _ = search(math.log, target=-0.03)
    assert found.number == pytest.approx(math.exp(-0.03), rel=1e-4)


@pytest.mark.parametrize(("present", "nearest"), [(-1.0, 0), (2.0, 1), (7.0, 2)])
def test_of_several_the_nearest_and_the_others(present, nearest):
    roots = [-2.9, 1.3, 6.1]
    found, _ = search(lambda x: math.prod(x - r for r in roots) / 100, BIASES, present)
    assert found.number == pytest.approx(roots.pop(nearest), abs=1e-3)
    assert found.others == pytest.approx(roots, abs=0.2)


def test_the_careful_rate_decides():
    """The quick one crosses at 1.7, or nowhere, where the careful one crosses at 1.5."""
    found, _ = search(lambda g: math.log(g / 1.5), quick=lambda g: math.log(g / 1.7), slack=0.2)
    assert found.number == pytest.approx(1.5, rel=1e-4)

    def hill(top):
        return lambda g: top - math.log(g / 1.4) ** 2

    found, _ = search(hill(0.04), quick=hill(-0.01))
    assert found.number == pytest.approx(1.4 * math.exp(-0.2), rel=1e-3)
    with pytest.raises(Unreachable, match=r"the nearest is -0\.0201, at 1\.414"):
        search(hill(-0.02), quick=hill(0.01))


def test_two_roots_between_two_points_of_the_scan():
    found, _ = search(lambda g: 1e-3 - math.log(g / 1.55) ** 2)
    assert abs(math.log(found.number / 1.55)) == pytest.approx(1e-3**0.5, rel=1e-2)


def test_what_overflows_grows():
    found, _ = search(lambda g: math.log(g / 3) if g < 3.5 else math.nan)
    assert found.number == pytest.approx(3, rel=1e-4)
    with pytest.raises(Unreachable, match=r"it jumps from -0\.6\d* to an overflow at 2, where"):
        search(lambda g: -0.6 - (2 - g) / 100 if g < 2 else math.nan)


def test_a_gradient_that_is_zero():
    found, _ = search(lambda g: math.log(g) if g > 0.9 else -math.inf)
    assert found.number == pytest.approx(1, rel=1e-4)


def test_one_that_is_only_approached_is_reached_within_a_thousandth():
    found, _ = search(lambda b: -math.exp(-b), BIASES, 0.0)
    assert found.number == 8
    with pytest.raises(Unreachable, match=r"the nearest is -0\.04979, at 3"):
        search(lambda b: -math.exp(-b), Range(-8.0, 3.0), 0.0)


def test_a_jump_is_said():
    with pytest.raises(Unreachable, match=r"it jumps from -0\.2 to 0\.3 at 2, where"):
        search(lambda g: -0.2 if g < 2 else 0.3)


def test_a_jump_that_is_nearer_than_a_root():
    found, _ = search(lambda g: -0.5 * math.tanh(5 * math.log(g / 0.3)) if g < 2 else 0.4)
    assert found.number == pytest.approx(0.3, rel=1e-4)
    assert found.others == ()
    with pytest.raises(Unreachable, match=r"it jumps from -0\.2 to 0\.3 at 2, where"):
        search(lambda g: -0.2 if 0.3 < g < 2 else 0.3)


@pytest.mark.parametrize(("root", "overflow"), [(0.9, 5), (0.3, 2)])
def test_an_overflow_is_no_other_root(root, overflow):
    """Nor is the root itself, when it was found from there."""
    found, _ = search(lambda g: -math.log(g / root) if g < overflow else math.nan)
    assert found.number == pytest.approx(root, rel=1e-4)
    assert found.others == ()


def test_where_it_jumps_the_nearer_side_may_be_allowed():
    """And not where a hill ends below the target, as far as it may be off."""

    def near(careful):
        return find_root(careful, careful, FACTORS, 1.0, 0.0, slack=0.05, allowed=lambda _: 0.02)

    assert near(lambda g: -0.015 if g < 2 else 0.3).number == pytest.approx(2, rel=1e-5)
    with pytest.raises(Unreachable, match=r"the nearest is -0\.015\d*, at 1\.414"):
        near(lambda g: -0.015 - math.log(g / 1.4) ** 2)
    with pytest.raises(Unreachable, match=r"it jumps from -0\.03 to 0\.3 at 2, where"):
        near(lambda g: -0.03 if g < 2 else 0.3)


def test_a_quick_rate_that_is_wrong_by_more_than_the_slack():
    with pytest.raises(Unreachable, match=r"the nearest is -0\.3, at"):
        search(lambda g: -0.3, quick=lambda g: -0.04 if g < 1 else 0.06)


def test_zero_is_below_a_range_of_positive_numbers():
    found, _ = search(lambda b: (b - 2) * (b - 7), Range(0.5, 8.0), 0.0)
    assert found.number == pytest.approx(2, rel=1e-4)
    assert found.others == pytest.approx((7,), rel=0.05)


def test_a_wanted_rate_beside_an_overflow():
    with pytest.raises(Unreachable, match=r"the nearest is an overflow, at 0\.01562"):
        search(lambda g: math.nan, target=0.1)
    with pytest.raises(Unreachable, match=r"the nearest is -inf, at 0\.01562"):
        search(lambda g: -math.inf, target=-0.1)
