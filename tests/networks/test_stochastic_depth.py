"""Stochastic depth: gates, their frequencies, evaluation, and its equality with the network that is not stochastic."""

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.networks.stochastic_depth import StochasticBlock, stochastic


def blocks(net: nn.Module) -> list[StochasticBlock]:
    return [m for m in net.modules() if isinstance(m, StochasticBlock)]


def test_parameters_and_macs_are_those_of_resnet110() -> None:
    with torch.device("meta"):
        net = build("resnet110_sd_cifar").eval()
    totals = account(net, NETWORKS["resnet110_sd_cifar"].input).totals
    # 1.7 M in He et al., Table 6; added up by hand as for resnet110_cifar
    assert (totals.params, round(totals.macs / 1e6, 2)) == (1_727_962, 252.89)


def test_survival_falls_linearly_to_a_half() -> None:
    """Equation 4 and Figure 2: p_0 = 1 is the input's, p_L = 0.5; with L = 54, 40.25 blocks take part on average.

    Section 3.2 has 3L/4 - 1/4 of them, "approximately 3L/4" or 40 of 54.
    """
    survivals = [block.survival for block in blocks(build("resnet110_sd_cifar", classes=2))]
    assert len(survivals) == 54
    assert survivals[0] == pytest.approx(1 - 0.5 / 54)
    assert survivals[-1] == 0.5
    steps = torch.tensor(survivals, dtype=torch.float64).diff()
    torch.testing.assert_close(steps, torch.full((53,), -0.5 / 54, dtype=torch.float64))
    assert sum(survivals) == pytest.approx((3 * 54 - 1) / 4)


def small(survival: float) -> tuple[StochasticBlock, torch.Tensor]:
    """The last block of a network of 14 layers, with an input that is not negative."""
    torch.manual_seed(0)
    block = blocks(stochastic(14))[-1]
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    block.survival = survival
    return block, torch.rand(2, 64, 4, 4)


@pytest.mark.parametrize("survival", [0.5, 0.8])
def test_how_often_a_block_survives(survival: float) -> None:
    """Of 1,000 mini-batches within four standard deviations; the branch then runs for the whole mini-batch."""
    block, x = small(survival)
    open_gates = 0
    with torch.no_grad():
        for _ in range(1000):
            y = block(x)
            if torch.equal(y, x):
                continue
            open_gates += 1
            assert all(not torch.equal(one, before) for one, before in zip(y, x, strict=True))
    assert abs(open_gates / 1000 - survival) < 4 * (survival * (1 - survival) / 1000) ** 0.5


def test_gates_are_drawn_apart_from_torchs_global_generator() -> None:
    """The same seed gives the same gates, and two blocks' gates are not one."""
    net = build("resnet110_sd_cifar", classes=2)
    ran: list[int] = []
    for position, block in enumerate(blocks(net)):
        block.body.register_forward_pre_hook(lambda *_, position=position: ran.append(position))

    def gates(seed: int) -> list[int]:
        ran.clear()
        torch.manual_seed(seed)
        with torch.no_grad():
            net.train()(torch.ones(2, 3, 8, 8))
        return list(ran)

    first, again, other = gates(1), gates(1), gates(2)
    assert first == again
    assert first != other
    assert 25 < len(first) < 54
    late = [position for position in first if position >= 27]
    assert 0 < len(late) < 27  # neither all nor none: each has a gate of its own


def test_a_closed_gate_spares_the_branch_and_gives_it_no_gradient() -> None:
    block, x = small(0.0)
    x.requires_grad_()
    y = block(x * 1)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    assert all(p.grad is None for p in block.parameters())
    assert all(m.num_batches_tracked == 0 for m in block.modules() if isinstance(m, nn.BatchNorm2d))


def test_in_evaluation_the_branch_is_multiplied_by_its_survival() -> None:
    """Equation 5: relu(p_l F(x) + x), without a draw."""
    block, x = small(0.7)
    block.eval()
    state = torch.get_rng_state()
    with torch.inference_mode():
        torch.testing.assert_close(block(x), torch.relu(0.7 * block.body(x) + x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("train", [False, True])
def test_with_a_survival_of_1_it_is_resnet110(train: bool) -> None:
    plain = build("resnet110_cifar", seed=3).train(train)
    net = build("resnet110_sd_cifar", seed=4).train(train)
    net.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = plain(x)
        assert not torch.allclose(net(x), expected)
        for block in blocks(net):
            block.survival = 1.0
        assert torch.equal(net(x), expected)


def test_equal_seeds_draw_the_same_weights_as_for_resnet110() -> None:
    stochastic_state, plain = (build(n, seed=5).state_dict() for n in ("resnet110_sd_cifar", "resnet110_cifar"))
    assert list(stochastic_state) == list(plain)
    assert all(torch.equal(stochastic_state[n], plain[n]) for n in plain)


def test_training_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        assert build("resnet110_sd_cifar").train()(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_with_a_survival_of_1_nothing_is_drawn_and_a_training_pass_can_be_accounted() -> None:
    with torch.device("meta"):
        net = build("resnet110_sd_cifar").train()
    for block in blocks(net):
        block.survival = 1.0
    state = torch.get_rng_state()
    assert account(net, (3, 32, 32)).totals.params == 1_727_962
    assert torch.equal(torch.get_rng_state(), state)
