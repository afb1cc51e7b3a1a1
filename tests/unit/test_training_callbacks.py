"""Warm-up, penalties, transfer and mixing, each against torch's own parts or its paper's formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader

from tests.training import CLASSES, Small, fitted, rows, sgd, trainer
from trainables.training.batch_change import BatchChange
from trainables.training.mixing import Mixing, cut, drawn_share
from trainables.training.parameters import matching, weights
from trainables.training.penalties import Penalties
from trainables.training.transfer import Transfer
from trainables.training.warm_up import WarmUp


class Rates(pl.Callback):
    """Notes the rate that each optimizer step has used."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # Lightning's
        def note(optimizer: Any, _args: Any, _kwargs: Any) -> None:  # noqa: ANN401  # torch's
            self.rates.append(optimizer.param_groups[0]["lr"])

        trainer.optimizers[0].register_step_pre_hook(note)


def scheduled(kind: str, interval: str = "epoch") -> Any:  # noqa: ANN401  # a function that Lightning calls
    def configure(module: nn.Module) -> Any:  # noqa: ANN401  # as Lightning has it
        optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.5)
        schedules: dict[str, Any] = {
            "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
            "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
            "exponential": lambda: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7),
            "plateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0),
        }
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedules[kind](), "interval": interval, "monitor": "val_loss"},
        }

    return configure


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize(
    ("kind", "interval"),
    [("step", "epoch"), ("cosine", "epoch"), ("exponential", "step"), ("one_cycle", "step"), ("plateau", "epoch")],
)
def test_a_warm_up_multiplies_what_any_schedule_says_and_the_schedule_never_sees_it(
    kind: str, interval: str, tmp_path: Path
) -> None:
    plain, warm = Rates(), Rates()
    fitted(tmp_path, scheduled(kind, interval), plain, epochs=3)
    warm_up = WarmUp(steps=5, start=0.1)
    fitted(tmp_path, scheduled(kind, interval), warm_up, warm, epochs=3)
    factors = [0.1, 0.28, 0.46, 0.64, 0.82] + [1.0] * 7
    expected = [rate * factor for rate, factor in zip(plain.rates, factors, strict=True)]
    if kind != "plateau":  # which hears of other losses
        assert warm.rates == pytest.approx(expected)
    assert warm.rates[:4] == pytest.approx(expected[:4])


def test_a_warm_up_is_linear_as_torchs_own_and_counts_optimizer_steps_where_gradients_are_accumulated(
    tmp_path: Path,
) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 0.1)
    reference = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=4)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = Rates()
    fitted(tmp_path, sgd(), WarmUp(4, 0.2), found, epochs=3, accumulate_grad_batches=2)
    assert found.rates == pytest.approx(expected)


def test_l2_is_what_sgd_calls_weight_decay_but_without_norms_and_biases(tmp_path: Path) -> None:
    def grouped(module: nn.Module) -> torch.optim.Optimizer:
        penalised = list(weights(module).values())
        rest = [p for p in module.parameters() if all(p is not one for one in penalised)]
        groups: list[dict[str, Any]] = [{"params": penalised, "weight_decay": 0.3}, {"params": rest}]
        return torch.optim.SGD(groups, 0.1, momentum=0.9)

    ours = fitted(tmp_path, sgd(momentum=0.9), Penalties(l2=0.3))
    theirs = fitted(tmp_path, grouped)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    everywhere = fitted(tmp_path, sgd(momentum=0.9), Penalties(l2=0.3, with_norms_and_biases=True))
    reference = fitted(tmp_path, sgd(momentum=0.9, weight_decay=0.3))
    pairs = zip(everywhere.parameters(), reference.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_l1_solves_the_lasso_as_scikit_learn_does_with_the_same_exact_zeros(tmp_path: Path) -> None:
    from sklearn.linear_model import Lasso

    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 10, generator=drawn, dtype=torch.float64)
    truth = torch.tensor([3.0, -2.0, 1.0] + [0.0] * 7, dtype=torch.float64)
    targets = inputs @ truth + 0.1 * torch.randn(200, generator=drawn, dtype=torch.float64)

    class Linear(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(10, 1, bias=False, dtype=torch.float64)

        def training_step(self, batch: list[Tensor], _number: int) -> Tensor:
            loss: Tensor = 0.5 * (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.3)

    module = Linear()
    loader = DataLoader(torch.utils.data.TensorDataset(inputs, targets), 200)
    trainer(tmp_path, [Penalties(l1=0.2)], 200).fit(module, loader)
    found = module.layer.weight.detach()[0]
    expected = Lasso(alpha=0.2, fit_intercept=False, tol=1e-12).fit(inputs.numpy(), targets.numpy()).coef_
    assert torch.allclose(found, torch.from_numpy(expected), atol=1e-6)
    assert [bool(value == 0) for value in found] == [value == 0 for value in expected]


def test_patterns_mean_names_and_what_they_begin_and_one_that_means_nothing_is_refused() -> None:
    names = ["first.weight", "first.bias", "norm.weight", "head.weight"]
    assert matching(names, ["first", "h*"]) == ["first.weight", "first.bias", "head.weight"]
    with pytest.raises(ValueError, match=r"no parameter is meant by 'body'; there are: first.weight"):
        matching(names, ["body"])


def test_frozen_layers_stay_and_thaw_from_the_last_to_the_first(tmp_path: Path) -> None:
    begun = Small(sgd())
    torch.manual_seed(3)
    begun = Small(sgd())
    freeze = Transfer(freeze=["first", "norm"], thaw_every_epochs=2)
    one = fitted(tmp_path, sgd(), freeze, epochs=2)
    assert same(one.first, begun.first)
    assert same(one.norm, begun.norm)
    assert not same(one.head, begun.head)
    two = fitted(tmp_path, sgd(), Transfer(freeze=["first", "norm"], thaw_every_epochs=2), epochs=4)
    assert same(two.first, begun.first)
    assert not same(two.norm, begun.norm)
    three = fitted(tmp_path, sgd(), Transfer(freeze=["first", "norm"], thaw_every_epochs=2), epochs=5)
    assert not same(three.first, begun.first)
    assert [freeze.frozen(epoch) for epoch in (0, 1, 2, 4)] == [("first", "norm"), ("first", "norm"), ("first",), ()]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_discriminative_rates_are_those_of_param_groups_for_any_optimizer(kind: Any, tmp_path: Path) -> None:  # noqa: ANN401  # any of them
    extra: dict[str, Any] = {"weight_decay": 0.1}
    ours = fitted(
        tmp_path, lambda m: kind(m.parameters(), lr=0.01, **extra), Transfer(freeze=["first", "norm"],
        rate_decay=0.5, thaw_every_epochs=1), epochs=5,
    )  # fmt: skip

    groups = fitted(
        tmp_path,
        lambda m: kind(
            [
                {"params": list(m.get_submodule("first").parameters()), "lr": 0.0025},
                {"params": list(m.get_submodule("norm").parameters()), "lr": 0.005},
                {"params": list(m.get_submodule("head").parameters())},
            ],
            lr=0.01, **extra,
        ),
        Transfer(freeze=["first", "norm"], thaw_every_epochs=1), epochs=5,
    )  # fmt: skip
    for name, ours_is in ours.named_parameters():
        if name != "first.bias":  # the norm takes it off again: its gradient is rounding, which AdamW makes large
            torch.testing.assert_close(ours_is, groups.get_parameter(name), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["lightning", "state_dict", "mlflow"])
def test_weights_come_from_a_checkpoint_in_any_form_and_another_head_stays(how: str, tmp_path: Path) -> None:
    torch.manual_seed(11)
    donor = Small(sgd())
    folder = tmp_path / "model" / "data"
    folder.mkdir(parents=True)
    content: Any = {"state_dict": donor.state_dict()} if how == "lightning" else donor.state_dict()
    torch.save(content, folder / "model.pth")
    path = tmp_path / "model" if how == "mlflow" else folder / "model.pth"
    torch.manual_seed(12)
    model = Small(sgd())
    model.head = nn.Linear(8, 5)
    head = model.head.weight.detach().clone()
    running = trainer(tmp_path, [], 1)
    Transfer(str(path)).setup(running, model, "fit")
    assert same(model.first, donor.first)
    assert torch.equal(model.head.weight, head)


def test_what_holds_no_weights_is_refused_and_nothing_in_it_is_executed(tmp_path: Path) -> None:
    evil = tmp_path / "evil.pt"
    torch.save({"state_dict": nn.Linear(1, 1)}, evil)  # a pickled object
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        Transfer(str(evil)).setup(trainer(tmp_path, [], 1), Small(sgd()), "fit")
    with pytest.raises(FileNotFoundError, match="is no checkpoint"):
        Transfer(str(tmp_path / "none")).setup(trainer(tmp_path, [], 1), Small(sgd()), "fit")
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"no weight in .* has the name and shape"):
        Transfer(str(tmp_path / "other.pt")).setup(trainer(tmp_path, [], 1), Small(sgd()), "fit")


def test_mixup_mixes_inputs_and_targets_by_the_same_share_and_validation_sees_neither(tmp_path: Path) -> None:
    module = fitted(tmp_path, sgd(), Mixing(CLASSES, mixup_alpha=0.4))
    table = rows()
    for inputs, targets in module.batches:
        assert targets.shape == (8, CLASSES)
        assert torch.allclose(targets.sum(1), torch.ones(8))
        assert not any(torch.equal(inputs, table.tensors[0][i : i + 8]) for i in range(0, 32, 8))
    plain = fitted(tmp_path, sgd(), Mixing(CLASSES))
    assert same(plain, fitted(tmp_path, sgd()))
    assert "training_step" not in module.__dict__, "given back"


def test_mixup_is_linear_and_its_share_follows_a_beta_distribution() -> None:
    from scipy.stats import beta, kstest

    torch.manual_seed(0)
    change = Mixing(2, mixup_alpha=0.4)
    inputs, targets = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    shares: list[float] = []
    while len(shares) < 500:
        mixed, soft = change.change((inputs, targets), pl.LightningModule())
        assert torch.allclose(mixed[:, 0], soft[:, 1]), "the input is its class, and so must the mixture be"
        if not torch.equal(soft, functional.one_hot(targets, 2).float()):  # a partner that is not the sample itself
            shares.append(float(soft[0, 0]))
    assert kstest(shares, beta(0.4, 0.4).cdf).pvalue > 0.001


def test_cutmix_keeps_the_share_of_the_area_that_it_says() -> None:
    torch.manual_seed(0)
    images = torch.stack([torch.zeros(3, 20, 20), torch.ones(3, 20, 20)])
    for share in (0.0, 0.3, 0.75, 1.0):
        mixed, own = cut(images, torch.tensor([1, 0]), share)
        assert float(mixed[0].mean()) == pytest.approx(1 - own)
        assert own >= share - 1e-9, "a rectangle that is cut off at the edge is smaller, never larger"
    with pytest.raises(ValueError, match="cutmix needs images"):
        cut(torch.zeros(2, 5), torch.tensor([1, 0]), 0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WarmUp(-1), "at least 0"), (lambda: WarmUp(1, 0.0), "above 0"), (lambda: Penalties(l1=-1), "at least"),
        (lambda: Transfer(rate_decay=0), "rate_decay"), (lambda: Mixing(2, -1), "at least 0"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(build: Any, message: str) -> None:  # noqa: ANN401  # makes one
    with pytest.raises(ValueError, match=message):
        build()


def test_a_norm_that_thaws_goes_on_with_its_statistics(tmp_path: Path) -> None:
    def transfer() -> Transfer:
        return Transfer(freeze=["first", "norm"], thaw_every_epochs=2)

    assert int(fitted(tmp_path, sgd(), transfer(), epochs=2).norm.get_buffer("num_batches_tracked")) == 0
    assert int(fitted(tmp_path, sgd(), transfer(), epochs=4).norm.get_buffer("num_batches_tracked")) == 8


def test_l1_shrinks_by_the_rate_that_a_warmed_up_step_has_whatever_the_order_of_callbacks(tmp_path: Path) -> None:
    one = fitted(tmp_path, sgd(), WarmUp(20, 0.01), Penalties(l1=0.1))
    other = fitted(tmp_path, sgd(), Penalties(l1=0.1), WarmUp(20, 0.01))
    assert same(one, other)
    unwarmed = fitted(tmp_path, sgd(), Penalties(l1=0.1))
    assert (one.first.weight == 0).sum() < (unwarmed.first.weight == 0).sum()


def test_of_weight_normalised_layers_lengths_are_penalised_and_directions_stay(tmp_path: Path) -> None:
    module = Small(sgd())
    weight_norm(module.first)
    assert "first.parametrizations.weight.original0" not in weights(module)
    trainer(tmp_path, [Penalties(l1=1.0)], 5).fit(module, DataLoader(rows(), 8), DataLoader(rows(), 8))
    lengths = module.get_parameter("first.parametrizations.weight.original0")
    assert (lengths == 0).any()
    assert bool(torch.isfinite(module.first.weight).all())


def test_batches_are_changed_in_their_own_precision_and_the_step_is_given_back_as_it_was(tmp_path: Path) -> None:
    class Turn(BatchChange):
        def change(self, batch: Any, pl_module: pl.LightningModule) -> Any:  # noqa: ANN401, ARG002  # as the base has it
            turned = batch[0] @ torch.eye(batch[0].shape[1])
            assert turned.dtype == torch.float32
            return turned, batch[1]

    module = Small(sgd())
    step = module.training_step
    module.training_step = step  # type: ignore[method-assign]  # as torch.compile does
    running = trainer(tmp_path, [Turn(), Turn()], 1, precision="bf16-mixed")
    running.fit(module, DataLoader(rows(), 8), DataLoader(rows(), 8))
    assert module.__dict__["training_step"] is step
    plain = fitted(tmp_path, sgd(), Turn(), Turn())
    assert "training_step" not in plain.__dict__


@pytest.mark.parametrize("alpha", [1e-30, 0.001, 0.01, 0.2, 1.0, 5.0])
def test_a_share_is_of_a_beta_distribution_however_small_alpha_is(alpha: float) -> None:
    torch.manual_seed(0)
    shares = torch.tensor([drawn_share(alpha) for _ in range(2000)], dtype=torch.float64)
    for quantile in (0.01, 0.1, 0.3):
        expected = stats.beta(alpha, alpha).cdf(quantile) if alpha > 1e-9 else 0.5
        assert float((shares <= quantile).double().mean()) == pytest.approx(expected, abs=0.04)
