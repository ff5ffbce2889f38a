"""Every restated total is compared with the tool itself, run on the same network: equal, or refused, never near."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import relu

from convatlas.conventions import TOOLS, Refusal, restate
from convatlas.errors import UnknownName
from convatlas.layers import drop_heads
from convatlas.networks import NETWORKS, build

OTHERS = tuple(t for t in TOOLS if t != "paper")
FEW = ("alexnet", "resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0")
MANY = """
vgg11 vgg16 vgg11_bn resnet50 resnet101 resnext50_32x4d wide_resnet50_2 googlenet inception_v3 densenet121
squeezenet1_0 mobilenet_v2 mobilenet_v3_large regnet_x_400mf regnet_y_400mf mnasnet1_0 efficientnet_b0
efficientnet_v2_s convnext_tiny vit_b_32 vit_b_16 swin_t swin_v2_t maxvit_t
"""
CATALOGUE = ("lenet5", "resnet18", "resnet50", "resnet20_cifar", "plain18", "alexnet", "googlenet", "squeezenet")


@pytest.fixture(autouse=True)
def quiet() -> object:
    """The tools warn of their own old ways of calling torch and of setuptools."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def theirs(tool: str, net: nn.Module, x: Tensor) -> int:
    net = copy.deepcopy(net)
    if tool == "torch":
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            net.to("meta")(x.to("meta"))
        return counter.get_total_flops()
    if tool == "fvcore":
        fvcore = pytest.importorskip("fvcore.nn")
        return fvcore.FlopCountAnalysis(net, x).total()
    if tool == "thop":
        return pytest.importorskip("thop").profile(net, (x,), verbose=False)[0]
    if tool == "torchinfo":
        return pytest.importorskip("torchinfo").summary(net, input_data=x, verbose=0).total_mult_adds
    ptflops = pytest.importorskip("ptflops")
    given = {"input_constructor": lambda _: x, "as_strings": False, "print_per_layer_stat": False}
    with contextlib.redirect_stdout(io.StringIO()):
        return ptflops.get_model_complexity_info(net, tuple(x.shape[1:]), **given)[0]


def compare(tool: str, net: nn.Module, x: Tensor) -> None:
    assert restate(net.eval(), tuple(x.shape), tool) == theirs(tool, net, x)


def of_torchvision(name: str) -> tuple[nn.Module, Tensor]:
    models = pytest.importorskip("torchvision.models")
    side = 299 if name == "inception_v3" else 224
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        return models.get_model(name, weights=None, **more).eval(), torch.zeros(1, 3, side, side)


@pytest.mark.parametrize("name", FEW)
def test_totals_of_torchvisions_networks_are_the_tools_own(name: str) -> None:
    net, x = of_torchvision(name)
    for tool in OTHERS:
        compare(tool, net, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY.split())
def test_totals_of_more_of_torchvisions_networks(name: str) -> None:
    net, x = of_torchvision(name)
    for tool in OTHERS:
        compare(tool, net, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CATALOGUE if n in NETWORKS])
def test_totals_of_the_catalogues_networks(name: str) -> None:
    net = build(name).eval()
    drop_heads(net)
    for tool in OTHERS:
        compare(tool, net, torch.zeros(1, *NETWORKS[name].input))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnetv2_50", "convnextv2_atto", "mobilenetv3_small_100"])
def test_totals_of_timms_networks(name: str) -> None:
    """Attention that has a hook of its own in ptflops, weights that are standardised, layers of timm's own types."""
    net = pytest.importorskip("timm").create_model(name, pretrained=False).eval()
    for tool in OTHERS:
        compare(tool, net, torch.zeros(1, 3, 224, 224))


# ---- Pieces ----------------------------------------------------------------------------------------------------------


class Calls(nn.Module):
    """A function of one convolution's output, and what it needs."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor], **modules: nn.Module):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.call = call
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, self.conv(x))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def attend(net: nn.Module, x: Tensor, **options: bool) -> Tensor:
    t = tokens(x)
    return net.attention(t, t, t, **options)[0]


def twice(net: nn.Module, x: Tensor) -> Tensor:
    return net.again(net.again(x))


HEADS = {"embed_dim": 8, "num_heads": 2, "batch_first": True}
LAYERS = {
    "response norm": nn.LocalResponseNorm(5),
    "transposed": nn.ConvTranspose2d(8, 4, 3, stride=2, groups=2),
    "same": nn.Conv2d(8, 8, 3, padding="same"),
    "no bias": nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False),
    "batch norm": nn.BatchNorm2d(8, affine=False),
    "untracked": nn.BatchNorm2d(8, track_running_stats=False),
    "group norm": nn.GroupNorm(2, 8),
    "instance norm": nn.InstanceNorm2d(8, affine=True),
    "layer norm": nn.LayerNorm(12, elementwise_affine=False),
    "prelu": nn.PReLU(8),
    "leaky": nn.LeakyReLU(),
    "relu6": nn.ReLU6(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "elu": nn.ELU(),
    "softmax": nn.Softmax(1),
    "pool": nn.AvgPool2d(3, 2),
    "max": nn.MaxPool2d(2, return_indices=False),
    "adaptive": nn.AdaptiveAvgPool2d(5),
    "adaptive max": nn.AdaptiveMaxPool2d(3),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(size=(20, 21), mode="bilinear"),
    "linear": nn.Linear(12, 7, bias=False),
}
STORED = F.gelu
FUNCTIONS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "conv2d": lambda net, x: F.conv2d(x[:, :3], net.conv.weight),
    "operators": lambda net, x: 2 * (x + x) * x - x @ x,
    "methods": lambda net, x: x.add(x).mul(2).matmul(x),
    "functions": lambda net, x: torch.add(torch.mul(x, x), torch.matmul(x, x)),
    "broadcast": lambda net, x: torch.mul(x, x.mean((2, 3), keepdim=True)) + torch.add(x, x[0, 0]),
    "sum": lambda net, x: sum([x, x]),
    "in place": lambda net, x: x.mul_(2).add_(1),
    "bmm": lambda net, x: torch.bmm(tokens(x), x.flatten(2)),
    "baddbmm": lambda net, x: torch.baddbmm(tokens(x)[:, :, :1], tokens(x), x.flatten(2)),
    "softmax": lambda net, x: F.softmax(x, 1).softmax(1),
    "einsum": lambda net, x: torch.einsum("nchw,ndhw->ncd", x, x),
    "fused attention": lambda net, x: F.scaled_dot_product_attention(x, x, x),
    "activations": lambda net, x: F.relu(F.gelu(F.silu(F.elu(F.relu6(F.leaky_relu(x)))))),
    "imported by name": lambda net, x: relu(x),
    "stored": lambda net, x: STORED(x),
    "torch.relu": lambda net, x: torch.relu(x),
    "pools": lambda net, x: F.max_pool2d(F.avg_pool2d(F.adaptive_avg_pool2d(x, 9), 3, 1), 2),
    "resized": lambda net, x: F.interpolate(F.interpolate(x, scale_factor=1.5), (7, 7), mode="bilinear"),
    "bicubic": lambda net, x: F.interpolate(x, (7, 7), mode="bicubic", antialias=True),
    "sampled": lambda net, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False),
}


@pytest.mark.parametrize("tool", OTHERS)
@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_is_counted_as_the_tool_counts_it(layer: str, tool: str) -> None:
    net = Calls(lambda net, x: net.layer(x), layer=LAYERS[layer])
    compare(tool, net, torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize("tool", OTHERS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_is_counted_or_overlooked_as_by_the_tool(function: str, tool: str) -> None:
    compare(tool, Calls(FUNCTIONS[function]), torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize("tool", OTHERS)
@pytest.mark.parametrize("weights", [True, False])
def test_attention_modules(tool: str, weights: bool) -> None:
    net = Calls(lambda net, x: attend(net, x, need_weights=weights), attention=nn.MultiheadAttention(**HEADS))
    compare(tool, net, torch.zeros(1, 3, 6, 6))


@pytest.mark.parametrize("tool", OTHERS)
def test_a_module_called_twice_and_one_with_two_parents(tool: str) -> None:
    shared = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    compare(tool, Calls(twice, again=shared), torch.zeros(1, 3, 6, 6))
    compare(
        tool, nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.Sequential(shared[0], shared[2])), torch.zeros(1, 3, 6, 6)
    )


@pytest.mark.parametrize("tool", OTHERS)
def test_a_batch(tool: str) -> None:
    net = Calls(
        lambda net, x: F.relu(net.end(x.mean((2, 3)))), end=nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
    )
    compare(tool, net, torch.zeros(3, 3, 6, 6))


def test_the_papers_convention_is_the_tables() -> None:
    assert restate(nn.Conv2d(3, 8, 3, bias=True).eval(), (3, 6, 6), "paper") == 8 * 4 * 4 * 3 * 9


def test_the_network_is_left_alone_also_after_a_refusal() -> None:
    lone = nn.Sequential(nn.LSTM(8, 8)).eval()
    for net, shape in ((Calls(twice, again=nn.BatchNorm2d(8)).eval(), (3, 6, 6)), (lone, (5, 2, 8))):
        state = {k: v.clone() for k, v in net.state_dict().items()}
        for tool in OTHERS:
            with contextlib.suppress(Refusal):
                restate(net, [shape if shape[0] == 3 else torch.empty(shape, device="meta")], tool)
        assert not any(m._forward_hooks or m.training for m in net.modules())
        assert state.keys() == net.state_dict().keys()
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


# ---- Refusals --------------------------------------------------------------------------------------------------------


def refusal(net: nn.Module, shape: tuple[int, ...], tool: str) -> str:
    with pytest.raises(Refusal) as caught:
        restate(net, shape, tool)
    return str(caught.value)


def test_an_unknown_tool_is_named_with_near_ones() -> None:
    with pytest.raises(UnknownName) as caught:
        restate(nn.ReLU(), (3, 6, 6), "torchinf")
    assert str(caught.value) == "no tool named 'torchinf'; did you mean torchinfo, torch?"


def test_training_mode_is_refused() -> None:
    assert refusal(nn.Sequential(nn.ReLU()), (3, 6, 6), "thop") == (
        "thop is restated in evaluation mode and the network is in training mode; call .eval() first"
    )


def test_recurrent_layers_are_refused_by_name() -> None:
    net = nn.Sequential(nn.LSTM(8, 8)).eval()
    for tool in ("thop", "ptflops"):
        assert refusal(net, (5, 8), tool) == (f"{tool}'s count of recurrent layers is not restated, as at 0 (LSTM)")
    for tool in ("torch", "fvcore"):
        assert refusal(net, (5, 8), tool) == (
            f"what {tool} counts of torch.lstm is not known here; account for the rest alone"
        )


def test_a_product_with_a_vector_is_refused() -> None:
    """torch overlooks it (aten::mv has no formula), fvcore stops at it with an IndexError."""
    net = Calls(lambda net, x: x @ x.new_ones(12)).eval()
    assert theirs("torch", net, torch.zeros(1, 3, 12, 12)) == 2 * 8 * 27 * 144
    assert refusal(net, (3, 12, 12), "torch") == (
        "torch's counter overlooks some products with a vector, as at the top (matmul); "
        "give the vector a dimension of one"
    )
    assert refusal(net, (3, 12, 12), "fvcore") == (
        "fvcore stops at the product with a vector; give the vector a dimension of one"
    )


def test_a_module_called_by_keywords_stops_hooks() -> None:
    net = Calls(lambda net, x: net.end(input=x), end=nn.Conv2d(8, 8, 1)).eval()
    for tool in ("thop", "ptflops"):
        assert refusal(net, (3, 6, 6), tool) == (
            f"{tool} stops at net.end (Conv2d), which is called without a positional tensor; pass it one"
        ).replace("net.end", "end")


def test_attention_called_by_keywords_stops_ptflops() -> None:
    net = Calls(lambda net, x: attend(net, x, need_weights=False), attention=nn.MultiheadAttention(**HEADS)).eval()
    net.call = lambda net, x: net.attention(tokens(x), tokens(x), value=tokens(x))[0]
    assert refusal(net, (3, 6, 6), "ptflops") == (
        "ptflops stops at attention (MultiheadAttention): its hook takes query, key and value, each by position"
    )


def test_a_pruned_layer_is_refused_by_torchinfo() -> None:
    from torch.nn.utils import prune

    net = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    assert refusal(net, (3, 6, 6), "torchinfo") == (
        "torchinfo reads the mask of the pruned 0 (Conv2d), and an account has no values; "
        "make the pruning permanent first"
    )


def test_calls_that_ptflops_counts_beside_calls_that_it_does_not() -> None:
    net = Calls(lambda net, x: F.relu(relu(x))).eval()
    assert refusal(net, (3, 6, 6), "ptflops") == (
        "ptflops counts some calls of relu in <lambda> and not others; call all of them as F.relu"
    )
