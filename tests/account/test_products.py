"""Attention, whose count depends on how torch happens to run it, against its definition."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account


def test_attention_counts_its_two_matrix_products() -> None:
    """Against the same written out, which torch's counter knows on every device."""

    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x[:, :, :3], x[:, :, :3, :4])

    with FlopCounterMode(display=False) as counter:
        x = torch.zeros(2, 6, 8, 10)
        (x @ x[:, :, :3].mT).softmax(-1) @ x[:, :, :3, :4]
    table = account(Fused(), torch.empty(2, 6, 8, 10))
    assert table.totals.macs == counter.get_total_flops() // 2
    assert table.rows[0].output == (2, 6, 8, 4)


@pytest.mark.parametrize(
    ("embed", "heads", "options"),
    [
        (16, 4, {}),
        (12, 3, {"kdim": 10, "vdim": 8}),
        (8, 2, {"add_bias_kv": True, "add_zero_attn": True}),
        (8, 1, {"bias": False}),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_multi_head_attention(embed: int, heads: int, options: dict[str, Any], weights: bool) -> None:
    """Against its definition: projections, query with keys, weights with values, output projection."""
    net = nn.MultiheadAttention(embed, heads, batch_first=True, **options).eval()
    k, v = options.get("kdim", embed), options.get("vdim", embed)

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
            out, w = self.net(q, k, v, need_weights=weights)
            outs.append((tuple(out.shape), None if w is None else tuple(w.shape)))
            return out

    outs: list[Any] = []
    inputs = [torch.zeros(2, 5, embed), torch.zeros(2, 7, k), torch.zeros(2, 7, v)]
    Attend()(*inputs)
    table = account(Attend(), inputs)
    assert outs[0] == outs[1]
    source = 7 + (2 if options.get("add_zero_attn") else 0)
    assert table.totals.macs == 2 * (
        5 * embed * embed + 7 * k * embed + 7 * v * embed + 2 * 5 * source * embed + 5 * embed * embed
    )
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.unused == 0
