"""Other people's networks of every family against torch's counter, and products of every kind: equal, or said."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account

pytest.importorskip("timm")


def _script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "exactness.py"
    spec = importlib.util.spec_from_file_location("exactness", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["exactness"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


exactness = _script()

TWELVE = """
torchvision:shufflenet_v2_x0_5 timm:beit_base_patch16_224 timm:efficientformerv2_s0 timm:levit_128s timm:mobilevit_xxs
timm:swin_tiny_patch4_window7_224 timm:lambda_resnet26t timm:halonet26t timm:volo_d1_224 timm:xcit_nano_12_p16_224
timm:nf_resnet26 timm:hiera_tiny_224
""".split()  # noqa: SIM905
LISTED = {f"timm:sequencer2d_{size}": ("what lstm saves",) for size in "sml"}  # oneDNN's workspace, which is no product


def check(name: str) -> None:
    found = exactness.compare(name)
    assert found.params[0] == found.params[1]
    assert found.macs[0] == found.macs[1] > 0
    assert found.uncounted == LISTED.get(name, ())
    assert found.operators <= {"aten.convolution", "aten.addmm", "aten.mm", "aten.bmm"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TWELVE)
def test_a_network_of_every_kind(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", exactness.torchvision_names())
def test_every_classifier_of_torchvision(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", exactness.timm_names())
def test_five_of_each_of_timms_families(name: str) -> None:
    check(name)


def test_the_names_are_of_all_families() -> None:
    import timm

    names = [name.removeprefix("timm:") for name in exactness.timm_names()]
    assert len(set(names)) == len(names) >= 300
    for family in timm.list_modules():
        every = timm.list_models(module=family)
        assert len(set(names) & set(every)) >= min(5, len(every)), family
    assert len(exactness.torchvision_names()) >= 80


def test_a_wrong_number_is_printed() -> None:
    found = exactness.Compared("net", "meta", (7, 8), (3, 3.5), ("torch.fft.fft",), frozenset(), (0.0, 0.0))
    assert found.differences == ["not counted: torch.fft.fft", "parameters 7 against 8.0", "MACs 3 against 3.5"]


# ---- One function at a time -----------------------------------------------------------------------------------------

Call = Callable[[Tensor, Tensor], Tensor]
EQUAL: dict[str, Call] = {
    "linalg.matmul": lambda x, w: torch.linalg.matmul(x, w),
    "addmm": lambda x, w: torch.addmm(w, x[0, 0], w),
    "baddbmm": lambda x, w: torch.baddbmm(x[0], x[0], x[1]),
    "rmatmul": lambda x, w: torch.Tensor.__rmatmul__(x, w),
    "einsum of two": lambda x, w: torch.einsum("bchw,wv->bchv", x, w),
    "einsum of three": lambda x, w: torch.einsum("bchw,wv,vu->bchu", x, w, w),
    "einsum by numbers": lambda x, w: torch.einsum(x, [0, 1, 2, 3], w, [3, 4], [0, 1, 2, 4]),
    "einsum of a diagonal": lambda x, w: torch.einsum("bchh,hv->bcv", x, w),
    "einsum without a sum": lambda x, w: torch.einsum("bchw,bchv->bchwv", x, x),
    "bilinear einsum": lambda x, w: torch.einsum("bchw,cd,bdhw->bhw", x, w, x),
    "convolution, weight not contiguous": lambda x, w: F.conv2d(x, w.T[:, :, None, None].expand(6, 6, 3, 3)),
    "conv_transpose2d": lambda x, w: F.conv_transpose2d(x, w[:, :, None, None].expand(6, 6, 3, 3)),
    "attention": lambda x, w: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention, keys broadcast": lambda x, w: F.scaled_dot_product_attention(x, x[:1], x[:1]),
    "attention, grouped": lambda x, w: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
    "lstm cell": lambda x, w: torch.lstm_cell(x[0, 0], (x[0, 0], x[0, 0]), w.repeat(4, 1), w.repeat(4, 1))[0],
    "unfold and fold": lambda x, w: F.fold(F.unfold(x, 3), (6, 6), 3),
    "cosine_similarity": lambda x, w: F.cosine_similarity(x, x + 1),
    "affine_grid": lambda x, w: F.affine_grid(x[:, 0, :2, :3], [2, 6, 6, 6], align_corners=False),
    "checkpoint": lambda x, w: torch.utils.checkpoint.checkpoint(lambda y: y @ w, x, use_reentrant=False),
}
LISTED_CALLS: dict[str, Call] = {
    "torch.functional.tensordot": lambda x, w: torch.tensordot(x, w, 1),
    "torch.inner": lambda x, w: torch.inner(x, w),
    "torch.functional.chain_matmul": lambda x, w: torch.linalg.multi_dot([x[0, 0], w, w]),
    "torch.Tensor.addmm_": lambda x, w: (w * 1).addmm_(x[0, 0], w),
    "torch.addbmm": lambda x, w: torch.addbmm(w, x[0], x[1]),
    "torch.linalg.matrix_power": lambda x, w: torch.linalg.matrix_power(x, 3),
    "torch.convolution": lambda x, w: torch.convolution(
        x, w[:, :, None, None], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    ),
    "torch.nn.functional.bilinear": lambda x, w: F.bilinear(x, x, w[None].expand(3, 6, 6)),
    "torch.functional.cdist": lambda x, w: torch.cdist(x, x),
    "aten.mm.default": lambda x, w: torch.ops.aten.mm.default(x[0, 0], w),
}
# torch's counter has no formula for aten::dot, mv and addmv; a product with a vector is one here.
TORCH_LACKS: dict[str, tuple[Call, int]] = {
    "dot": (lambda x, w: torch.dot(x[0, 0, 0], w[0]), 6),
    "mv": (lambda x, w: torch.mv(x[0, 0], w[0]), 36),
    "addmv": (lambda x, w: torch.addmv(w[0], x[0, 0], w[0]), 36),
    "matrix with vector": (lambda x, w: x @ w[0], 2 * 6 * 6 * 6),
    "vector with matrix": (lambda x, w: w[0] @ x, 2 * 6 * 6 * 6),
}


class Calls(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call, self.w = call, nn.Parameter(torch.zeros(6, 6, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.w)


def both(call: Call) -> tuple[int, int, tuple[str, ...]]:
    """MACs here and by torch, and what is listed."""
    net = Calls(call)
    table = account(net, (2, 6, 6, 6))
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(2, 6, 6, 6, device="meta"))
    return table.totals.macs, counter.get_total_flops() // 2, table.uncounted


@pytest.mark.parametrize("name", EQUAL)
def test_functions_are_counted_as_torch_counts_them(name: str) -> None:
    ours, theirs, listed = both(EQUAL[name])
    assert ours == theirs
    assert listed == ()


@pytest.mark.parametrize("name", LISTED_CALLS)
def test_products_without_a_rule_are_listed(name: str) -> None:
    ours, _, listed = both(LISTED_CALLS[name])
    assert ours == 0
    assert len(listed) == 1


@pytest.mark.parametrize("name", TORCH_LACKS)
def test_products_with_a_vector_are_counted_where_torch_has_no_formula(name: str) -> None:
    call, macs = TORCH_LACKS[name]
    assert both(call) == (macs, 0, ())
