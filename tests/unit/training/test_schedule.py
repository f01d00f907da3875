import pytest
import torch

from udt_cluster.training.schedule import learning_rate


def test_warm_restarts_is_torchs_stepped_once_per_epoch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2, eta_min=0)
    for epoch in range(70):
        ours = learning_rate("warm_restarts", epoch, base=0.02, epochs=70)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        peer.step()


def test_restarts_are_where_the_recipe_has_them() -> None:
    rates = [learning_rate("warm_restarts", epoch, base=1.0, epochs=30) for epoch in range(30)]
    assert [epoch for epoch, rate in enumerate(rates) if rate == 1.0] == [0, 2, 6, 14]


def test_cosine_falls_once() -> None:
    rates = [learning_rate("cosine", epoch, base=1.0, epochs=10) for epoch in range(10)]
    assert rates[0] == 1.0
    assert rates[5] == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_constant() -> None:
    assert {learning_rate("constant", epoch, base=0.3, epochs=10) for epoch in range(10)} == {0.3}
