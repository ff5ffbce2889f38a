"""What a row says besides shapes: the setting of its call."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.table import read_table

X = (2, 6, 8, 10)


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


SETTINGS: list[tuple[Callable[[Tensor], Any], dict[str, Any]]] = [
    (
        lambda x: F.conv2d(x, torch.zeros(4, 3, 3, 2), None, (2, 1), (1, 0), 2, 2),
        {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (2, 2), "groups": 2, "bias": False},
    ),
    (
        lambda x: F.max_pool2d(x, 3, None, 1, ceil_mode=True),
        {"kernel": (3, 3), "stride": (3, 3), "padding": (1, 1), "dilation": (1, 1), "ceil_mode": True},
    ),
    (lambda x: F.adaptive_avg_pool2d(x, (3, None)), {"size": (3, 10)}),
    (lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6)), {"eps": 1e-5, "training": False, "affine": False}),
    (lambda x: F.linear(x, torch.zeros(7, 10), torch.zeros(7)), {"bias": True}),
    (lambda x: x.softmax(-1), {"dim": -1}),
    (lambda x: x.mean((2, 3), keepdim=True), {"dim": (2, 3), "keepdim": True}),
    (lambda x: torch.cat([x, x], dim=1), {"dim": 1}),
    (lambda x: x * 0.5, {"values": (0.5,)}),
    (lambda x: x.clamp(min=float("-inf")), {"min": "-inf"}),
    (lambda x: F.layer_norm(x, (8, 10), eps=1e-6), {"normalized_shape": (8, 10), "eps": 1e-6}),
    (lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect"), {"pad": (1, 2, 3, 1), "mode": "reflect"}),
    (lambda x: x.relu(), {}),
]


@pytest.mark.parametrize(("function", "setting"), SETTINGS)
def test_settings_of_a_call(function: Callable[[Tensor], Any], setting: dict[str, Any]) -> None:
    table = account(Of(function), torch.empty(X, device="meta"))
    found = table.rows[0].setting
    assert {k: v for k, v in found.items() if k in setting} == setting
    assert set(found) - set(setting) <= {"value", "eps", "weight", "bias"}
    assert read_table(table.as_json()) == table
