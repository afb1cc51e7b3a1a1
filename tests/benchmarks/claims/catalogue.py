"""The claims: what was published, what is measured here, and from where on that counts.

Every threshold, margin, data size and grid here and in the sweep files was fixed before its result was seen. Rates and
strengths are tuned for each arm on the same grid, by the seeds that are not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.benchmarks.claims.claim import Claim, Part, Ran
from tests.benchmarks.claims.fits import (
    Arm,
    BySeed,
    Choice,
    Fit,
    after,
    by_seed,
    differences,
    epochs_until,
    final,
    savings,
    tuned,
)
from tests.benchmarks.claims.played import seconds_to_best

ACCURACY: Final = final("val_acc")
BEST_ACCURACY: Final = Choice(ACCURACY, is_larger_better=True)
BEST_LOSS: Final = Choice(final("val_loss"), is_larger_better=False)
SEEDS: Final = tuple((f"seed={seed}",) for seed in range(5))
NORM: Final = "model.init_args.normalization"
L1: Final = "trainer.callbacks.0.init_args.l1"
WIDTH: Final = "model.init_args.width"
WEIGHT: Final = "trainer.callbacks.0.init_args.weight"
START: Final = "data.init_args.start"
SAMPLES: Final = "data.init_args.train_samples"
PRETRAINING: Final = "trainer.callbacks.0.init_args.pretraining"
COPIES: Final = "data.init_args.copies"
SPARSITY: Final = "trainer.callbacks.0.init_args.sparsity"
ADAM, SGD = ({"optimizer.class_path": f"torch.optim.{name}"} for name in ("Adam", "SGD"))
COSINE, CONSTANT = (
    {"lr_scheduler.class_path": f"torch.optim.lr_scheduler.{name}"} for name in ("CosineAnnealingLR", "ConstantLR")
)
AUGMENTED, PLAIN = ({"trainer.callbacks.0.init_args.strength": value} for value in (1.0, 0.0))
TAUGHT, ALONE, TEACHER = {WIDTH: 4, WEIGHT: 0.7}, {WIDTH: 4, WEIGHT: 0.0}, {WIDTH: 32}
RECOMMENDER: Final = {
    "model.init_args.embedding_size": 16,
    "model.init_args.graph_steps": 3,
    "model.init_args.depth": 1,
    "model.init_args.width": 32,
    "model.init_args.dropout": 0.0,
    "optimizer.init_args.lr": 0.001,
    "optimizer.init_args.weight_decay": 0.01,
}


def _fewer_epochs(says: str, one: Arm, other: Arm, *, threshold: float, epochs: int) -> Part:
    """How many epochs less one arm takes until `val_acc` is there, of the `epochs` that there are."""
    measure = epochs_until("val_acc", threshold, is_larger_better=True, epochs=epochs)

    def by(ran: Ran, arm: Arm) -> BySeed:
        return tuned(ran.fits[0], arm, Choice(measure, is_larger_better=False))

    def late(ran: Ran) -> int:
        return sum(value > epochs for value in by(ran, other).values())

    return Part(says, "%", lambda ran: savings(by(ran, one), by(ran, other)), late=late)


def _tuned_gain(one: Arm, other: Arm) -> Callable[[Ran], list[float]]:
    """How many points more accurate one arm is in the end, both tuned."""
    return lambda ran: differences(
        tuned(ran.fits[0], one, BEST_ACCURACY), tuned(ran.fits[0], other, BEST_ACCURACY), 100
    )


def _gain(one: Arm, other: Arm) -> Callable[[Ran], list[float]]:
    """How many points more accurate one arm is in the end; both have one configuration."""
    return lambda ran: differences(by_seed(ran.fits[0], one, ACCURACY), by_seed(ran.fits[0], other, ACCURACY), 100)


def _zeros(fit: Fit) -> float:
    return 1 - fit.last("nonzero_parameters") / fit.last("parameters")


def _sparser(ran: Ran) -> list[float]:
    first = [fit for fit in ran.fits[0] if fit.params[L1] > 0]
    second = [fit for fit in ran.fits[0] if fit.params[L1] == 0]
    return differences(tuned(first, {}, BEST_LOSS, _zeros), tuned(second, {}, BEST_LOSS, _zeros), 100)


def _text_augmentation(metric: str) -> Callable[[Ran], list[float]]:
    """After 6 epochs with a copy of each text, 12 without: as many steps."""

    def measured(ran: Ran) -> list[float]:
        copied, plain = (
            tuned(ran.fits[0], {COPIES: copies}, Choice(after(metric, epochs), is_larger_better=True))
            for copies, epochs in ((1, 6), (0, 12))
        )
        return differences(copied, plain, 100)

    return measured


def _recommender(ran: Ran) -> list[float]:
    return savings(tuned(ran.fits[0], {}, BEST_LOSS), by_seed(ran.fits[0], RECOMMENDER, BEST_LOSS.measure))


def _transfer_beside(samples: int) -> Callable[[Ran], list[float]]:
    """Accuracy with 25 images after a pretraining, less that with so many without one."""

    def measured(ran: Ran) -> list[float]:
        few = [fit for fit in ran.fits[0] if fit.params[SAMPLES] == 25 and fit.params[PRETRAINING] is not None]
        scratch = by_seed(ran.fits[0], {SAMPLES: samples, PRETRAINING: None}, ACCURACY)
        return differences(by_seed(few, {}, ACCURACY), scratch, 100)

    return measured


def _bayes_beside(searcher: str) -> Callable[[Ran], list[float]]:
    def measured(ran: Ran) -> list[float]:
        bayes, whole = seconds_to_best(tuple(ran.sweeps), "bayes")
        return savings(bayes, whole if searcher == "grid" else seconds_to_best(tuple(ran.sweeps), searcher)[0])

    return measured


def _random_beats_grid(ran: Ran) -> list[float]:
    """The n-th of the first five runs is random search with seed n; the last one is the grid with all seeds."""
    grid = {seed: max(ACCURACY(fit) for fit in ran.fits[-1] if fit.seed == seed) for seed in range(5)}
    random = {seed: max(map(ACCURACY, fits)) for seed, fits in enumerate(ran.fits[:-1])}
    return differences(random, grid, 100)


CLAIMS: Final = (
    Claim(
        name="bayes_vs_grid",
        says="Bayesian search reaches what exhaustive grid search reaches in less time",
        published="40 % less",
        here="MLP on the breast-cancer table, 40 configurations; `bayes` played on their curves, training time only",
        parts=(
            Part("less time than the whole grid", "%", _bayes_beside("grid")),
            Part("as much as published", "%", _bayes_beside("grid"), edge=40, is_published=True),
            Part("less time than random order needs", "%", _bayes_beside("random")),
        ),
        runs=SEEDS,
    ),
    Claim(
        name="random_vs_grid",
        says="Random search beats grid search for an RNN",
        published="as good or better in a fraction of the time (Bergstra & Bengio 2012, other networks)",
        here="GRU on the library's docstrings, 12 configurations each",
        parts=(Part("higher validation accuracy of the best", "points", _random_beats_grid),),
        runs=(
            *SEEDS,
            (
                "search.name=grid",
                "evaluation.seeds=5",
                "evaluation.race_level=1.0e-300",
                "parameters.model.init_args.width={values: [13, 38]}",
                "parameters.model.init_args.dropout={values: [0.15, 0.45]}",
                "parameters.optimizer.init_args.lr={values: [0.00065, 0.003, 0.014]}",
            ),
        ),
    ),
    Claim(
        name="adam_vs_sgd",
        says="Adam converges faster than SGD, yet tuned SGD ends as well or better",
        published="faster: Kingma & Ba 2015; better: Wilson et al. 2017",
        here="ConvNet on digits; epochs to 0.97, and validation accuracy after 12",
        parts=(
            _fewer_epochs("fewer epochs with Adam", ADAM, SGD, threshold=0.97, epochs=12),
            Part(
                "accuracy of SGD beyond Adam's, at most half a point less", "points", _tuned_gain(SGD, ADAM), edge=-0.5
            ),
        ),
    ),
    Claim(
        name="schedule",
        says="A learning-rate schedule beats a constant rate",
        published="no one number",
        here="ConvNet on digits, SGD, cosine annealing over 10 epochs",
        parts=(Part("higher validation accuracy", "points", _tuned_gain(COSINE, CONSTANT)),),
    ),
    Claim(
        name="batch_norm",
        says="Batch normalisation speeds convergence",
        published="14 times fewer steps (Ioffe & Szegedy 2015)",
        here="ConvNet on digits; epochs to 0.95 validation accuracy",
        parts=(_fewer_epochs("fewer epochs", {NORM: "batch"}, {NORM: "none"}, threshold=0.95, epochs=12),),
    ),
    Claim(
        name="l1_vs_l2",
        says="L1 gives sparser weights than L2",
        published="L1 sets weights to zero, L2 does not (Tibshirani 1996)",
        here="MLP on the breast-cancer table, each penalty as strong as is best for its loss",
        parts=(Part("more weights that are exactly zero", "points", _sparser),),
    ),
    Claim(
        name="augmentation",
        says="Augmentation lifts held-out accuracy when data is scarce",
        published="10 points",
        here="ConvNet on 100 digits; rotation, crops, brightness",
        parts=(
            Part("higher held-out accuracy", "points", _tuned_gain(AUGMENTED, PLAIN)),
            Part("as much as published", "points", _tuned_gain(AUGMENTED, PLAIN), edge=10, is_published=True),
        ),
    ),
    Claim(
        name="text_augmentation",
        says="Text augmentation makes a classifier sturdier",
        published="0.8 points, 3.0 with 500 texts (Wei & Zou 2019, whole texts)",
        here="GRU on 608 docstrings, words swapped or left out, as many steps either way",
        parts=(
            Part("higher accuracy with 30 % of the words unknown", "points", _text_augmentation("val_damaged_acc")),
            Part("higher accuracy on whole texts", "points", _text_augmentation("val_acc")),
        ),
    ),
    Claim(
        name="pruning",
        says="90 % pruning costs little accuracy",
        published="none lost at 89 to 92 % (Han et al. 2015)",
        here="ConvNet on digits, magnitude, gradual; little is at most one point",
        parts=(
            Part("accuracy gained, at most one point lost", "points", _gain({SPARSITY: 0.9}, {SPARSITY: 0.0}), edge=-1),
        ),
    ),
    Claim(
        name="distillation",
        says="A distilled student matches a much larger teacher",
        published="67 errors instead of 146, the teacher's 74 (Hinton et al. 2015, MNIST)",
        here="ConvNets on digits; to match is to be at most one point worse",
        parts=(
            Part("accuracy beyond the teacher's, at most one point less", "points", _gain(TAUGHT, TEACHER), edge=-1),
            Part("higher accuracy than without a teacher", "points", _gain(TAUGHT, ALONE)),
        ),
    ),
    Claim(
        name="curriculum",
        says="A curriculum converges faster",
        published="faster and better (Bengio et al. 2009; Hacohen & Weinshall 2019)",
        here="ConvNet on digits, the easy ones first by a smaller network's loss; epochs to 0.9",
        parts=(_fewer_epochs("fewer epochs", {START: 0.3}, {START: 1.0}, threshold=0.9, epochs=15),),
    ),
    Claim(
        name="transfer",
        says="Transfer needs far less data",
        published="100 texts as good as 100 times more (Howard & Ruder 2018)",
        here="ConvNet, from the digits 0 to 4 to 5 to 9; 25 images with a pretraining",
        parts=(
            Part("higher accuracy than from scratch with 25", "points", _transfer_beside(25)),
            Part("higher accuracy than from scratch with 100", "points", _transfer_beside(100)),
        ),
    ),
    Claim(
        name="recommender",
        says="A tuned recommender lifts the click-through prediction",
        published="tuning can outweigh a newer model (Rendle et al. 2019)",
        here="graph network on generated impressions; the best of 12 random configurations and the first guess",
        parts=(Part("lower log loss than the first guess", "%", _recommender),),
    ),
)
