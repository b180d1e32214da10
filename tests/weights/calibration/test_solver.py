from itertools import pairwise, product

import numpy as np
import pytest

from weights.calibration.solver import InfeasibleTargetError, Solver
from weights.calibration.thresholds import Outcome, simulate

MACS = (25, 42, 78, 261)


def _cascade(count: int, seed: int, exits: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and correctness of a cascade whose later exits are better; confidence tells, imperfectly."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(size=count)
    skill = np.linspace(0.3, 1.4, exits)[:, None]
    margin = skill - difficulty + generator.normal(scale=0.7, size=(exits, count))
    return 1 / (1 + np.exp(-1.5 * margin - 0.5)), margin + generator.normal(scale=0.6, size=(exits, count)) > 0


def test_solver_small_set_equals_brute_force() -> None:
    confidence, correct = _cascade(12, seed=0, exits=3)
    grids = [sorted({0.0, 1.01, *confidence[exit_].tolist()}) for exit_ in range(2)]
    outcomes = [simulate(confidence, correct, MACS[:3], pair) for pair in product(*grids)]
    solver = Solver(confidence, correct, MACS[:3])
    for budget in (25, 30, 40, 55, 78):
        best = max(outcome.accuracy for outcome in outcomes if outcome.mean_macs <= budget)
        found = solver.for_macs(budget).outcome
        assert found.accuracy == best
        assert found.mean_macs == min(o.mean_macs for o in outcomes if o.accuracy == best and o.mean_macs <= budget)
    for accuracy in sorted({outcome.accuracy for outcome in outcomes}):
        cheapest = min(outcome.mean_macs for outcome in outcomes if outcome.accuracy >= accuracy)
        assert solver.for_accuracy(accuracy).outcome.mean_macs == pytest.approx(cheapest)
    frontier = {(o.mean_macs, o.accuracy) for o in outcomes if not any(_beats(other, o) for other in outcomes)}
    assert [(point.outcome.mean_macs, point.outcome.accuracy) for point in solver.frontier(100)] == sorted(frontier)


def _beats(one: Outcome, other: Outcome) -> bool:
    at_least = one.mean_macs <= other.mean_macs and one.accuracy >= other.accuracy
    return at_least and (one.mean_macs, one.accuracy) != (other.mean_macs, other.accuracy)


def test_frontier_thinned_keeps_its_ends_and_its_order() -> None:
    solver = Solver(*_cascade(2500, seed=7), MACS)
    whole, thinned = solver.frontier(10_000), solver.frontier(8)

    assert len(whole) > 64
    assert len(thinned) == 8
    assert (thinned[0], thinned[-1]) == (whole[0], whole[-1])
    pairs = [(point.outcome.mean_macs, point.outcome.accuracy) for point in whole]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    assert whole[-1].outcome.accuracy == pytest.approx(solver.for_macs(MACS[-1]).outcome.accuracy)


def test_solver_extremes_are_first_stage_alone_and_no_limit_and_beyond_them_it_raises() -> None:
    solver = Solver(*_cascade(500, seed=7), MACS)
    assert solver.for_macs(MACS[0]).outcome.exit_shares == (1.0, 0.0, 0.0, 0.0)
    assert solver.for_macs(10 * MACS[-1]).outcome.accuracy >= solver.full_accuracy
    with pytest.raises(InfeasibleTargetError, match="below the 25 of the first stage"):
        solver.for_macs(24)
    with pytest.raises(InfeasibleTargetError, match="can be reached"):
        solver.for_accuracy(1.1)


def test_solver_mismatched_or_non_finite_input_raises() -> None:
    confidence, correct = _cascade(10, seed=9)
    with pytest.raises(ValueError, match="do not belong together"):
        Solver(confidence, correct[:3], MACS)
    with pytest.raises(ValueError, match="finite"):
        Solver(np.where(confidence > 0.5, np.nan, confidence), correct, MACS)


def test_solver_single_exit_has_no_thresholds_to_choose() -> None:
    confidence, correct = _cascade(50, seed=3, exits=1)
    solution = Solver(confidence, correct, (7,)).for_accuracy_drop(0.0)
    assert solution.thresholds == ()
    assert (solution.outcome.mean_macs, solution.outcome.exit_shares) == (7.0, (1.0,))
