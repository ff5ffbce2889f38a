"""FractalNet against sums by hand, the authors' own order of layers, and what drop-path must do."""

from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from convatlas.account import account
from convatlas.networks import build
from convatlas.networks.fractalnet import Block, Fractal, FractalNet, Join, kept

NAME = "fractalnet20_cifar"
WIDTHS = (64, 128, 256, 512, 512)  # of the released code, as is the dropout


@cache
def trained(steps: int = 2) -> FractalNet:
    """With running statistics of its own, so that evaluation means something; dropout off."""
    net = build(NAME)
    assert isinstance(net, FractalNet)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    net.drop_path = 0.0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(steps):
            net(torch.randn(4, 3, 32, 32, generator=generator))
    return net


def test_parameters_and_macs_by_hand() -> None:
    """Seven convolutions a block, three of which see the block's input; each with bias, scale and shift."""
    params, macs, cin, side = 0, 0, 3, 32
    for width in WIDTHS:
        weights = 9 * (3 * cin * width + 4 * width * width)
        params += weights + 7 * 3 * width
        macs += weights * side * side
        cin, side = width, side // 2
    with torch.device("meta"):
        totals = account(build(NAME).eval(), (3, 32, 32)).totals
    assert totals.params == params + 5130 == 33_734_922
    assert totals.macs == macs + 5120
    assert round(totals.macs / 1e6) == 845


def columns(fractal: Fractal) -> list[list[nn.Module]]:
    """The convolutions of each column in their order, the deepest first."""
    first, second = fractal.first, fractal.second
    deep = [first.first.shallow, first.second.shallow, second.first.shallow, second.second.shallow]
    return [deep, [first.shallow, second.shallow], [fractal.shallow]]


def of_the_authors(block: Block, x: Tensor) -> Tensor:
    """A block as gustavla/fractalnet's generator has it: row by row over the columns, and joins where they end."""
    waiting: list[Iterator[nn.Module]] = [iter(column) for column in columns(block.fractal)]
    ways = [x, x, x]
    for row in range(1, 5):
        ending = [c for c in range(3) if row % 2**c == 0]
        for c in ending:
            ways[c] = next(waiting[c])(ways[c])
            if row == 4:
                ways[c] = nn.functional.max_pool2d(ways[c], 2)
        mean = torch.stack([ways[c] for c in ending]).mean(0)
        for c in ending:
            ways[c] = mean
    return ways[0]


def test_blocks_are_the_authors() -> None:
    net = trained().eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for b in range(1, 6):
            block = net.get_submodule(f"block{b}")
            y = block(x)
            torch.testing.assert_close(y, of_the_authors(block, x))
            assert y.std() > 0.01
            x = y
        assert x.shape == (2, 512, 1, 1)


@pytest.mark.parametrize(("column", "depth"), [(0, 5), (1, 10), (2, 20)])
def test_a_column_is_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch, column: int, depth: int) -> None:
    """Global drop-path keeps one column of the whole network: 1, 2 or 4 convolutions a block; nothing else learns."""
    net = trained().train()
    net.drop_path = 0.15
    monkeypatch.setattr(net, "draw", lambda: (0.0, column))
    net.zero_grad()
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    learning = {n for n, p in net.named_parameters() if n.endswith("conv.weight") and p.grad.any()}
    own = {id(layer) for b in range(1, 6) for layer in columns(net.get_submodule(f"block{b}").fractal)[2 - column]}
    assert len(learning) == depth
    assert learning == {f"{n}.conv.weight" for n, m in net.named_modules() if id(m) in own}
    net.drop_path = 0.0


def test_a_column_alone_equals_its_layers_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    net = trained().eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        for column in range(3):
            y, expected = x, x
            for b in range(1, 6):
                block = net.get_submodule(f"block{b}")
                y = block(y, column=column)
                for layer in columns(block.fractal)[2 - column]:
                    expected = layer(expected)
                expected = nn.functional.max_pool2d(expected, 2)
            assert torch.equal(y, expected)


@pytest.mark.parametrize("ways", [2, 3])
def test_local_drop_path_keeps_each_way_as_often_and_never_none(ways: int) -> None:
    torch.manual_seed(0)
    times = 20_000
    drawn = [kept(ways, 0.15) for _ in range(times)]
    assert all(any(keep) for keep in drawn)
    # A way is kept by its own draw, or as the one that is left where all fell.
    expected = 0.85 + 0.15**ways / ways
    for n in range(ways):
        assert sum(keep[n] for keep in drawn) / times == pytest.approx(expected, abs=0.01)
    all_fell = Counter(tuple(kept(ways, 1.0)) for _ in range(3000))
    assert len(all_fell) == ways
    assert all(sum(keep) == 1 and count == pytest.approx(3000 / ways, rel=0.1) for keep, count in all_fell.items())


def test_a_join_is_the_mean_of_what_is_kept() -> None:
    ways = [torch.full((1, 1, 2, 2), float(value)) for value in (0, 3, 12)]
    join = Join()
    assert torch.equal(join(ways), torch.full((1, 1, 2, 2), 5.0))
    assert [join(ways, column=c).unique().tolist() for c in range(3)] == [[0.0], [3.0], [12.0]]
    torch.manual_seed(0)
    joined = [join(ways, 0.5).mean().item() for _ in range(4000)]
    assert set(joined) == {0.0, 3.0, 12.0, 1.5, 6.0, 7.5, 5.0}  # means of every subset but the empty one
    assert sum(joined) / len(joined) == pytest.approx(5, abs=0.2)  # no way is favoured


def test_mini_batches_are_half_local_and_half_global() -> None:
    with torch.device("meta"):
        net = build(NAME)
    torch.manual_seed(0)
    drawn = Counter(net.draw() for _ in range(6000))
    assert drawn[0.15, None] == pytest.approx(3000, rel=0.05)
    assert set(drawn) == {(0.15, None), (0.0, 0), (0.0, 1), (0.0, 2)}
    assert all(drawn[0.0, column] == pytest.approx(1000, rel=0.1) for column in range(3))


def test_drop_path_repeats_by_the_global_seed_and_evaluation_draws_nothing() -> None:
    net = trained().train()
    net.drop_path = 0.15
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(torch.stack([net(x) for _ in range(3)]))
        assert torch.equal(runs[0], runs[1])
        assert not torch.equal(runs[0], runs[2])
        torch.manual_seed(1)
        state = torch.get_rng_state()
        net.eval()(x)
        assert torch.equal(torch.get_rng_state(), state)
    net.drop_path = 0.0


@pytest.mark.parametrize(("drop_path", "most"), [(0.0, 1), (0.15, 10)])
def test_every_weight_learns_within_some_steps(drop_path: float, most: int) -> None:
    net = trained().train()
    net.drop_path = drop_path
    net.zero_grad()
    torch.manual_seed(3)
    left = {n for n, _ in net.named_parameters()}
    for _ in range(most):
        net(torch.randn(2, 3, 32, 32)).square().sum().backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())  # also of ways that were dropped
        left = {n for n, p in net.named_parameters() if n in left and not p.grad.any()}
        if not left:
            break
    assert left == set()
    net.drop_path = 0.0


def test_initialisation_is_caffes_xavier() -> None:
    net = build(NAME, classes=10)
    for layer in (net.block1.fractal.shallow.conv, net.block3.fractal.first.shallow.conv, net.fc):
        bound = (3 / layer.weight[0].numel()) ** 0.5
        assert 0.98 * bound < layer.weight.abs().max().item() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert not layer.bias.any()
    assert [net.get_submodule(f"block{b}.fractal.shallow.dropout").p for b in range(1, 6)] == [0, 0.1, 0.2, 0.3, 0.4]
