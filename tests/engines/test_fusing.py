"""Fused convolutions: the same answers, also where a network writes over what it reads or uses a sum twice."""

import pytest
import torch
from torch import Tensor, fx, nn

from convatlas.engines.folding import same_answers, trace
from convatlas.engines.fusing import FusedConvolution, FusedLinear, can_fuse, fuse

pytestmark = pytest.mark.skipif(not can_fuse(), reason="this PyTorch has no oneDNN")


def images(n: int = 2, channels: int = 4) -> Tensor:
    x = torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def fused(net: nn.Module, x: Tensor) -> fx.GraphModule:
    traced = trace(net.eval())
    assert traced is not None
    return fuse(traced, x)


def assert_same(net: nn.Module, sizes: tuple[int, ...] = (2, 1, 5)) -> fx.GraphModule:
    with torch.no_grad():
        expected = [net.eval()(images(n)) for n in sizes]
        made = fused(net, images(2))
        for n, answer in zip(sizes, expected, strict=True):
            given = images(n)
            first, second = made(given), made(given)
            assert same_answers(first, answer, 1e-5)
            assert torch.equal(first, second), "a second call on the same input gives something else"
    return made


def convolutions(net: nn.Module) -> list[FusedConvolution]:
    return [m for m in net.modules() if isinstance(m, FusedConvolution)]


class Adds(nn.Module):
    """What a residual block may do; each kind is one way."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.stem, self.a, self.b = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        s = self.stem(x)
        match self.how:
            case "identity":
                return self.relu(self.a(s) + s)
            case "projection":
                return nn.functional.relu(self.a(s) + self.b(s))
            case "two layers":
                return self.relu(self.b(self.a(s)) + s)
            case "two blocks":
                s = self.relu(self.a(s) + s)
                return self.relu(s + self.b(s))
            case "sum in place":
                y = self.a(s)
                y += s
                return y
            case "used again":
                return (self.b(self.a(s)) + s) * s
            case "a view is used again":
                corner = s[:, :, ::2, ::2]
                return nn.functional.pad(self.b(self.a(s)) + s, (0, 0)) + corner.mean()
            case "input is added":
                return self.a(x) + x
            case "written over":
                y = self.a(s)
                s = self.relu(s)
                return y + s
            case "the skip is changed":
                kept = s
                s += self.a(s)
                return s * kept
            case "broadcast":
                return self.a(s) + s.mean((2, 3), keepdim=True)
            case "scaled":
                return torch.add(s, self.a(s), alpha=0.5)
        return self.a(s) + self.a(s)  # called twice


KINDS = (
    "identity",
    "projection",
    "two layers",
    "two blocks",
    "sum in place",
    "used again",
    "a view is used again",
    "input is added",
)
KINDS += ("written over", "the skip is changed", "broadcast", "scaled", "called twice")


@pytest.mark.parametrize("how", KINDS)
def test_sums_keep_their_answers(how: str) -> None:
    assert_same(Adds(how))


@pytest.mark.parametrize(
    ("how", "into"), [("identity", 0), ("projection", 1), ("two layers", 1), ("two blocks", 0), ("used again", 0)]
)
def test_a_sum_reuses_memory_only_where_nobody_needs_it(how: str, into: int) -> None:
    assert sum(m.into for m in convolutions(assert_same(Adds(how)))) == into


def test_the_callers_images_stay() -> None:
    x = images()
    before = x.clone()
    with torch.no_grad():
        fused(Adds("input is added"), x)(x)
    assert torch.equal(x, before)


def test_a_whole_block_is_one_call_a_layer() -> None:
    made = assert_same(Adds("two blocks"))
    assert [n.op for n in made.graph.nodes] == ["placeholder", "call_module", "call_module", "call_module", "output"]


LAYERS = [
    nn.Conv2d(4, 8, 3, stride=2, dilation=2, padding=(1, 2), groups=4),
    nn.Conv2d(4, 8, 1, bias=False),
    nn.Conv2d(4, 8, 3, padding="same"),
    nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"),
    nn.ConvTranspose2d(4, 8, 3, stride=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh()], ids=str)
def test_layers_of_every_kind(layer: nn.Module, relu: nn.Module) -> None:
    made = assert_same(nn.Sequential(layer, relu))
    plain = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and layer.padding != "same"
    assert len(convolutions(made)) == plain
    assert any(isinstance(m, nn.ReLU) for m in made.modules()) == (not plain and isinstance(relu, nn.ReLU))


def test_linear_layers() -> None:
    made = assert_same(nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 3)))
    assert [type(m) for m in made.children()] == [nn.Flatten, FusedLinear, nn.Linear]


def test_a_layer_with_a_hook_is_left() -> None:
    layer = nn.Conv2d(4, 4, 1)
    layer.register_forward_hook(lambda module, given, out: out * 2)
    assert not convolutions(assert_same(nn.Sequential(layer, nn.ReLU())))
