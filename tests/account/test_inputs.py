"""What may go in and come out, what a forward may do in between, and forwards that are run since they read values."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.table import Table


def refusal(net: nn.Module, given: Any, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        account(net, given, **options)
    return str(caught.value)


def counted(net: nn.Module, *args: Tensor, **kwargs: Tensor) -> int:
    """MACs by torch's counter, with gradients and on the meta device, or attention takes kernels without a formula."""
    net = deepcopy(net).to("meta")
    with FlopCounterMode(display=False) as counter:
        net(*(t.to("meta") for t in args), **{name: t.to("meta") for name, t in kwargs.items()})
    return counter.get_total_flops() // 2


def ops(table: Table) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(r.path, r.op, r.output) for r in table.rows]


# ---- In and out ------------------------------------------------------------------------------------------------------


class Captioner(nn.Module):
    """An image and tokens with a mask, by name; a dataclass comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.words = nn.Conv2d(3, 8, 3), nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, image: Tensor, *, tokens: Tensor, mask: Tensor | None = None) -> "Answer":
        places = self.conv(image).flatten(2).mT
        words = self.words(tokens)
        if mask is not None:
            words = words * mask.unsqueeze(-1)
        mixed, _ = self.attention(words, places, places, need_weights=False)
        return Answer(mixed, {"places": (places, [words])})


@dataclass
class Answer:
    mixed: Tensor
    others: dict[str, Any]


def test_inputs_by_name() -> None:
    net = Captioner().eval()
    tokens, mask = torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5)
    table = account(net, {"image": (3, 6, 6), "tokens": tokens, "mask": (1, 5)})
    assert table.input == ((1, 3, 6, 6), (1, 5), (1, 5))
    assert [r.op for r in table.rows][:3] == ["conv2d", "embedding", "mul"]
    assert table.totals.macs == counted(net, torch.zeros(1, 3, 6, 6), tokens=tokens, mask=mask)
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    without = account(net, {"tokens": tokens, "image": torch.empty(1, 3, 6, 6, device="meta")})
    assert [r.op for r in without.rows][:3] == ["conv2d", "embedding", "multi_head_attention_forward"]


def test_names_that_the_forward_does_not_have() -> None:
    assert refusal(nn.Conv2d(3, 4, 3), {"image": (3, 8, 8)}) == (
        "at the network's own forward (Conv2d): TypeError: Conv2d.forward() got an unexpected keyword argument 'image'"
    )


@pytest.mark.parametrize("given", [{}, {0: (3, 8, 8)}])
def test_dicts_that_name_no_arguments(given: dict[Any, Any]) -> None:
    assert refusal(nn.ReLU(), given) == (
        f"input {given!r} is no shape; give (channels, height, width) as (3, 224, 224), a list of shapes, or a dict "
        "of shapes by the names of the forward's arguments"
    )


def test_a_shape_in_a_dict_that_is_none() -> None:
    assert refusal(nn.ReLU(), {"input": (3, 0)}) == (
        "input (3, 0) is no shape; give whole numbers above zero, as in (3, 224, 224)"
    )


# ---- What a forward may do -------------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """One block for all levels, weights tied through F.linear, writes in place, slices, a loop on the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.down = nn.Linear(4, 6, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        levels = []
        while min(x.shape[2:]) >= 4:
            x = self.block(x)
            x[:, :2] += x[:, 2:]
            levels.append(x)
            x = x[:, :, ::2, ::2]
        mean = x.mean((2, 3))
        return F.linear(self.down(mean), self.down.weight.t()), levels


def test_one_block_for_all_levels_and_tied_weights() -> None:
    net = Blocks().eval()
    table = account(net, (4, 16, 12))
    convolutions = [r for r in table.rows if r.op == "conv2d"]
    assert [r.output[2:] for r in convolutions] == [(16, 12), (8, 6)]
    assert [r.params for r in convolutions] == [4 * 4 * 9 + 4, 0]
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.totals.macs == counted(net, torch.zeros(1, 4, 16, 12)) == (192 + 48) * 144 + 2 * 24
    assert [r.activations for r in table.rows if r.op == "relu"] == [0, 0]


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(6, 8, 5, 2, 2, 1, 2), (2, 6, 20)),
    (nn.Conv1d(6, 8, 3, padding="same", dilation=3), (2, 6, 20)),
    (nn.Conv2d(6, 12, (3, 5), (2, 1), (1, 2), (2, 1), 3), (2, 6, 12, 14)),
    (nn.Conv2d(6, 6, 3, groups=6, padding_mode="circular", padding=1), (2, 6, 12, 14)),
    (nn.Conv3d(2, 4, 3, 2, 1), (1, 2, 6, 8, 10)),
    (nn.Conv3d(2, 4, (1, 3, 3), groups=2), (1, 2, 6, 8, 10)),
    (nn.ConvTranspose1d(6, 4, 4, 2, 1), (2, 6, 9)),
    (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2), (2, 6, 7, 5)),
    (nn.ConvTranspose3d(2, 4, 2, 2), (1, 2, 3, 4, 5)),
    (nn.Bilinear(3, 3, 4), (5, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_convolutions_of_all_kinds(layer: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = [torch.zeros(shape)] * (2 if isinstance(layer, nn.Bilinear) else 1)
    table = account(layer, inputs)
    assert table.rows[-1].output == tuple(layer(*inputs).shape)
    assert table.totals.params == sum(p.numel() for p in layer.parameters())
    if not isinstance(layer, nn.Bilinear):
        assert (table.totals.macs, table.uncounted) == (counted(layer, *inputs), ())


def test_attention_in_evaluation_has_the_cost_of_its_long_way() -> None:
    """Without gradients torch takes fused kernels that its counter cannot see into; the account is the same."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.zeros(2, 7, 16)
    expected = counted(net, x)
    with torch.no_grad():
        assert account(net, x).totals.macs == expected
    frozen = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().requires_grad_(False)
    table = account(frozen, x)
    assert (table.totals.macs, table.uncounted) == (expected, ())
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.rows[-1].output == (2, 7, 16)


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_in_evaluation(weights: bool) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            return self.attention(x, x, x, need_weights=weights)

    net, x = Own().eval(), torch.zeros(2, 7, 16)
    with torch.no_grad():
        table = account(net.requires_grad_(False), x)
    assert table.totals.macs == counted(net.requires_grad_(True), x)
    assert table.uncounted == ()


def test_scaled_dot_product_attention_with_a_mask() -> None:
    class Own(nn.Module):
        def forward(self, q: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)

    q = torch.zeros(2, 4, 7, 16)
    table = account(Own(), {"q": q, "mask": torch.zeros(7, 7)})
    assert table.totals.macs == 2 * (2 * 4 * 7 * 7 * 16)


# ---- Wrappers --------------------------------------------------------------------------------------------------------


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


def test_data_parallel_and_compiled_modules_are_unwrapped() -> None:
    net = plain()
    expected = account(net, (3, 8, 8))
    for wrapped in (nn.DataParallel(net), torch.compile(net), nn.DataParallel(torch.compile(net))):
        table = account(wrapped, (3, 8, 8))
        assert table == expected
        assert table.network == "Sequential"


def test_distributed_data_parallel_is_unwrapped(tmp_path: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        net = plain()
        assert account(nn.parallel.DistributedDataParallel(net), (3, 8, 8)) == account(net, (3, 8, 8))
    finally:
        torch.distributed.destroy_process_group()


def test_a_parallel_module_inside_is_refused() -> None:
    assert refusal(nn.Sequential(nn.DataParallel(plain())), (3, 8, 8)) == (
        "at 0: a DataParallel spreads over devices; give the module that it wraps"
    )


# ---- Forwards that read values ---------------------------------------------------------------------------------------


class Reads(nn.Module):
    """Chooses by values, keeps statistics, draws random numbers, writes into its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros(()))
        self.scale = nn.Parameter(torch.full((4, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.scale.data.clamp_(0, 1)
        x = F.dropout(F.relu(self.norm(self.conv(x))), 0.5, self.training) * self.scale
        if x.mean().item() >= 0:
            x = F.max_pool2d(x, 2)
        rows = x.flatten(2).mT.flatten(0, 1)
        return self.fc(rows[rows.sum(1) >= 0])


def snapshot(net: nn.Module) -> list[Any]:
    return [(k, id(v), v.clone()) for k, v in net.state_dict(keep_vars=True).items()]


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_that_reads_values_is_run_on_the_cpu(training: bool) -> None:
    net = Reads().train(training)
    assert refusal(net, (3, 8, 8)).endswith(
        "let the forward depend on shapes, or give device='cpu' to run it on values"
    )
    before, state = snapshot(net), torch.get_rng_state()
    table = account(net, (3, 8, 8), device="cpu")
    for (name, place, value), (name2, place2, value2) in zip(before, snapshot(net), strict=True):
        assert (name, place) == (name2, place2)
        assert torch.equal(value, value2)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == [training] * 4
    assert all(p.grad is None for p in net.parameters())
    assert table.totals.macs == 64 * 4 * 27 + 16 * 4 * 5
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.uncounted == ()
    assert ("", "max_pool2d", (1, 4, 4, 4)) in ops(table)
    assert ("", "getitem", (16, 4)) in ops(table)
    assert ops(table)[-1] == ("fc", "linear", (16, 5))


def test_buffers_that_are_only_read_are_the_same_tensors_after_a_run() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    net = Scaled()
    place = id(net.scale)
    assert ops(account(net, (3, 4, 4), device="cpu")) == [("", "mul", (1, 3, 4, 4))]
    assert id(net.scale) == place


def test_values_that_are_given_decide() -> None:
    class Chosen(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x[mask] * 2

    mask = torch.tensor([True, False, True, True])
    table = account(Chosen(), {"x": torch.zeros(4, 6), "mask": mask}, device="cpu")
    assert ops(table) == [("", "getitem", (3, 6)), ("", "mul", (3, 6))]


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "vit_b_16", "mobilenet_v3_small"])
@pytest.mark.parametrize("training", [True, False])
def test_a_run_gives_the_same_table_as_a_walk(name: str, training: bool) -> None:
    from torchvision import models

    options = {"init_weights": False} if name == "googlenet" else {}
    net = models.get_model(name, weights=None, **options).train(training)
    size = (2, 3, 224, 224) if name == "vit_b_16" else (2, 3, 64, 64)
    assert account(net, size, device="cpu") == account(net, size)


def test_an_error_in_a_run_is_put_right_again() -> None:
    net = nn.Sequential(Reads(), nn.Linear(6, 2)).train()
    before, modes = snapshot(net), (torch.is_grad_enabled(), torch.get_rng_state())
    assert refusal(net, (3, 8, 8), device="cpu") == (
        "at 1 (linear): got 5 features (16x5), expects 6 (weight 2x6); set in_features=5, or out_features=6 in 0.fc"
    )
    for (_, place, value), (_, place2, value2) in zip(before, snapshot(net), strict=True):
        assert place == place2
        assert torch.equal(value, value2)
    assert torch.is_grad_enabled() == modes[0]
    assert torch.equal(torch.get_rng_state(), modes[1])


def test_weights_that_are_not_there() -> None:
    with torch.device("meta"):
        net = nn.Sequential(Reads())
    assert refusal(net, (3, 8, 8), device="cpu") == (
        "at 0: weights on 'meta' cannot be run on the CPU; build the network on the CPU, or move it there"
    )


def test_another_device() -> None:
    assert refusal(plain(), (3, 8, 8), device="cuda") == (
        "device 'cuda' cannot run an account; give device='cpu', or none for shapes alone"
    )
