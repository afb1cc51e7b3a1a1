"""The claims: their statistics against known answers, their sweep files, and the README's table of what came out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.spec.sweep_spec import load_sweep
from service.sweeps.submission import code_root
from service.tuning.assignment import Assignment, Report
from service.tuning.lightning_config import build
from service.tuning.signature_check import check
from service.tuning.signature_request import request_of
from service.tuning.trial import _KNOWN_WARNINGS, run_attempt
from tests.benchmarks.claims.catalogue import CLAIMS
from tests.benchmarks.claims.claim import FOLDER, Claim, Part, Ran, described, intervals_of, verdict
from tests.benchmarks.claims.fits import (
    Choice,
    Fit,
    by_seed,
    differences,
    epochs_until,
    final,
    is_in,
    savings,
    tuned,
)
from tests.benchmarks.claims.run import README, answer, results, with_table
from tests.benchmarks.claims.statistics import Interval, bootstrap, epochs_to
from trainables.data.digits import Digits

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in _KNOWN_WARNINGS]
EACH = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
FIT: dict[str, Any] = {
    "cli": "trainables.training.one_seed.OneSeedCLI",
    "model": {"class_path": "trainables.vision.conv_net.ConvNet"},
    "data": {"class_path": "trainables.data.digits.Digits"},
    "trainer": {"accelerator": "cpu"},
}


@EACH
def test_a_claims_sweep_is_valid_in_every_run_and_has_enough_seeds(claim: Claim) -> None:
    seeds = []
    for overrides in claim.runs:
        spec = load_sweep(claim.path, overrides)
        request = request_of(
            spec.fit, spec.parameters, max_epochs=spec.max_epochs, code_root=code_root(claim.path, spec)
        )
        assert check(request)[0] == []
        assert spec.scheduler.name == "fifo", "nothing may be stopped for what it has shown"
        assert spec.evaluation.seeds == 1 or spec.evaluation.race_level < 1e-100, "no side may be given up"
        assert spec.budget.max_concurrent_trials == 1
        seeds.append(spec.evaluation.seeds)
    assert max(seeds) >= 5 or sum("seed=" in overrides[0] for overrides in claim.runs) >= 5


@EACH
def test_a_claim_is_complete(claim: Claim) -> None:
    comments = [line for line in claim.path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comments[0].startswith("# Claim: ")
    assert any(line.startswith("# Measured: ") for line in comments)
    assert any(line.startswith("# Needs: ") for line in comments)
    assert any(f'`make claims ARGS="--only {claim.name}"`' in line for line in comments)
    assert all((claim.says, claim.published, claim.here, claim.parts))
    assert len({part.says for part in claim.parts}) == len(claim.parts)


def test_each_sweep_file_is_a_claim() -> None:
    assert sorted(claim.path for claim in CLAIMS) == sorted(FOLDER.glob("*.yaml"))


@EACH
def test_the_smallest_form_of_a_claim_runs_and_logs_its_metric(claim: Claim, tmp_path: Path) -> None:
    spec = load_sweep(claim.path)
    reports: list[Report] = []
    name = spec.objectives.objectives[0].name
    assignment = Assignment(
        sweep_id="s", trial=0, attempt=1, params={}, fit=spec.fit, metrics=(name,), seed=5, max_epochs=1,
        checkpoint_epochs=(), storage=str(tmp_path), best_metric=(name, spec.objectives.objectives[0].goal),
    )  # fmt: skip

    def report(one: Report) -> bool:
        reports.append(one)
        return True

    run_attempt(assignment, report)
    assert [one.epoch for one in reports] == [1]
    assert math.isfinite(reports[0].metrics[name])


def test_the_readme_shows_what_the_results_give() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text, results()) == text
    assert all(answer(claim, None) == ("was not run", "") for claim in CLAIMS)


def test_every_result_has_what_its_numbers_need() -> None:
    names = {claim.name: claim for claim in CLAIMS}
    for result in results().values():
        claim = names[result["claim"]]
        assert {"on", "versions", "python", "cpus", "fits", "epochs", "wall_s", "parts"} <= result.keys()
        assert all(len(part["values"]) >= 5 for part in result["parts"])
        assert len(intervals_of(claim, result)) == len(claim.parts)


def test_a_result_about_other_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="run the claim again"):
        intervals_of(CLAIMS[0], {"parts": [{"says": "something else", "values": [1.0] * 5}]})


def test_the_interval_of_equal_values_is_a_point_and_four_are_too_few() -> None:
    assert bootstrap([2.0] * 5) == Interval(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="4 seeds are too few"):
        bootstrap([1.0, 2.0, 3.0, 4.0])


def test_the_interval_moves_and_scales_with_the_values() -> None:
    values = np.random.default_rng(1).normal(size=8)
    mean, low, high = bootstrap(list(values))
    assert low < mean < high
    assert bootstrap(list(10 + 3 * values)) == pytest.approx((10 + 3 * mean, 10 + 3 * low, 10 + 3 * high))


def test_the_interval_is_that_of_students_t_where_values_are_many_and_normal() -> None:
    values = np.random.default_rng(2).normal(1.0, 2.0, size=200)
    error = values.std(ddof=1) / math.sqrt(200)
    expected = stats.t.interval(0.95, 199, loc=values.mean(), scale=error)
    assert bootstrap(list(values))[1:] == pytest.approx(expected, abs=0.1 * error)


def test_the_interval_holds_the_truth_as_often_as_it_says_with_six_seeds() -> None:
    random = np.random.default_rng(3)
    found = [bootstrap(list(random.normal(size=6))) for _ in range(300)]
    assert sum(low <= 0 <= high for _, low, high in found) / 300 >= 0.92


def test_epochs_to_a_threshold() -> None:
    curve = {1: 0.5, 2: 0.9, 3: 0.8, 4: 0.95}
    assert epochs_to(curve, 0.9, is_larger_better=True, never=5) == 2
    assert epochs_to(curve, 0.96, is_larger_better=True, never=5) == 5
    assert epochs_to({1: 0.5, 2: 0.4}, 0.4, is_larger_better=False, never=3) == 2
    assert epochs_to({}, 0.4, is_larger_better=False, never=3) == 3


def fit(seed: int, acc: list[float], *, is_whole: bool = True, **params: object) -> Fit:
    return Fit(params, seed, {epoch: {"acc": value} for epoch, value in enumerate(acc, 1)}, is_whole)


def test_what_diverged_has_reached_nothing_and_is_never_chosen() -> None:
    sooner = epochs_until("acc", 0.9, is_larger_better=True, epochs=3)
    assert sooner(fit(0, [0.1, 0.9, 0.2])) == 2
    assert sooner(fit(0, [0.95, 0.9], is_whole=False)) == 4
    fits = [fit(s, [1.0], lr=1, is_whole=s > 1) for s in range(4)] + [fit(s, [0.5], lr=2) for s in range(4)]
    assert tuned(fits, {}, Choice(final("acc"), is_larger_better=True)) == dict.fromkeys(range(4), 0.5)


def test_a_rate_is_chosen_by_the_other_seeds() -> None:
    lucky = [fit(0, [1.0], lr=1), fit(1, [0.1], lr=1), fit(2, [0.1], lr=1)]
    steady = [fit(0, [0.6], lr=2), fit(1, [0.6], lr=2), fit(2, [0.6], lr=2)]
    choice = Choice(final("acc"), is_larger_better=True)
    assert tuned([*lucky, *steady], {}, choice) == {0: 0.6, 1: 0.6, 2: 0.6}
    assert tuned([*lucky, *steady], {"lr": 1}, choice) == {0: 1.0, 1: 0.1, 2: 0.1}
    assert tuned([*lucky, *steady], {}, choice, lambda one: one.seed) == {0: 0, 1: 1, 2: 2}
    smallest = Choice(final("acc"), is_larger_better=False)
    assert tuned([*lucky, *steady], {}, smallest) == {0: 1.0, 1: 0.1, 2: 0.1}


def test_pairs_and_shares() -> None:
    assert differences({0: 0.5, 1: 0.25}, {1: 0.5, 0: 0.25}, 100) == [25.0, -25.0]
    assert savings({0: 3.0, 1: 8.0}, {0: 4.0, 1: 4.0}) == [25.0, -100.0]
    with pytest.raises(ValueError, match="do not pair"):
        differences({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="diverged"):
        differences({0: math.nan}, {0: 1.0})
    assert is_in(fit(0, [1], a=1, b="x"), {"b": "x"})
    assert not is_in(fit(0, [1], a=1), {"b": "x"})
    assert by_seed([fit(0, [1.0], a=1), fit(1, [0.5], a=1), fit(0, [0.1], a=2)], {"a": 1}, final("acc")) == {
        0: 1,
        1: 0.5,
    }
    with pytest.raises(ValueError, match="several fits with seed 0"):
        by_seed([fit(0, [1.0], a=1), fit(0, [1.0], a=2)], {}, final("acc"))


def test_a_verdict_follows_from_the_intervals_alone() -> None:
    def values(ran: Ran) -> list[float]:
        return [float(len(ran.fits))]

    parts = (Part("faster", "%", values), Part("as published", "%", values, edge=40, is_published=True))
    claim = Claim("name", "says", "published", "here", parts)
    assert verdict(claim, [Interval(50, 45, 55), Interval(50, 45, 55)]) == "holds"
    assert verdict(claim, [Interval(30, 20, 41), Interval(30, 20, 41)]) == "holds"
    assert verdict(claim, [Interval(30, 20, 39), Interval(30, 20, 39)]) == "holds in part"
    assert verdict(claim, [Interval(1, -1, 3), Interval(1, -1, 3)]) == "does not hold"
    alone = Claim("name", "says", "published", "here", parts[:1])
    assert verdict(alone, [Interval(1, -1, 3)]) == "not shown"
    assert verdict(alone, [Interval(-2, -3, -1)]) == "does not hold"
    assert described(parts[1], Interval(30, 20, 41), 0) == "as published: it may be"
    assert described(parts[1], Interval(30, 20, 39), 0) == "as published: no"
    assert described(parts[0], Interval(1, -1, 3), 0) == "not shown: faster: 1 % (-1 to 3)"
    assert described(parts[0], Interval(74.4, 70.5, 76.9), 6).endswith(
        "faster: 74.4 % (70.5 to 76.9), at least, as 6 never got there"
    )


def test_one_seed_decides_the_split_too_and_those_of_callbacks(tmp_path: Path) -> None:
    seeds = []
    for seed in (3, 4):
        made = build(FIT, seed=seed, max_epochs=1, scratch=tmp_path)
        assert isinstance(made.data, Digits)
        seeds.append(made.data.plan.seed)
        assert made.config["data"]["init_args"]["seed"] == seed
    assert seeds == [3, 4]
    plain = build({k: v for k, v in FIT.items() if k != "cli"}, seed=3, max_epochs=1, scratch=tmp_path)
    assert isinstance(plain.data, Digits)
    assert plain.data.plan.seed == 0
