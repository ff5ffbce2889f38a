"""Which parts of a network stand side by side, told from the rows of its table."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from convatlas.account import account
from convatlas.branches import Part, Piece, Split, parts

SHAPE = (8, 16, 16)


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, device="meta")


class Net(nn.Module):
    """Named layers under a forward that is given."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor], **layers: nn.Module):
        super().__init__()
        self.given = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.given(self, x)


def drawn(pieces: Sequence[Piece]) -> list[object]:
    """Names; a split as a tuple of its branches, the shortcut's word and the join."""
    return [
        p.name
        if isinstance(p, Part)
        else (*(drawn(b) for b in p.branches), *filter(None, [p.shortcut]), p.join.rows[0].op)
        for p in pieces
    ]


def of(net: nn.Module, shape: tuple[int, ...] = SHAPE) -> list[object]:
    return drawn(parts(account(net.eval(), shape).rows))


def test_branches_from_one_tensor_that_a_cat_joins() -> None:
    net = Net(
        lambda m, x: torch.cat([m.a(x), m.c(m.b(x)), m.d(x)], 1),
        a=conv(8, 4, 1), b=conv(8, 6, 1), c=conv(6, 5, 3), d=conv(8, 2, 5),
    )  # fmt: skip
    assert of(net) == [(["a"], ["b", "c"], ["d"], "cat")]


def test_body_and_projection_that_an_add_joins() -> None:
    net = Net(lambda m, x: m.b(m.a(x)) + m.short(x), a=conv(8, 4, 3), b=conv(4, 16, 3), short=conv(8, 16, 1))
    assert of(net) == [(["a", "b"], ["short"], "add")]


def test_layers_of_one_shape_in_a_row_are_told_from_branches_by_their_receptive_field() -> None:
    a, b, c = conv(8, 8, 3), conv(8, 8, 3), conv(8, 8, 3)
    side_by_side = Net(lambda m, x: m.c(m.b(x) + m.a(x)), b=b, a=a, c=c)
    in_sequence = Net(lambda m, x: m.c(m.b(m.a(x))), a=a, b=b, c=c)
    assert of(side_by_side) == [(["b"], ["a"], "add"), "c"]
    assert of(in_sequence) == ["a", "b", "c"]


def test_where_shapes_and_fields_are_the_same_the_order_of_calls_stands() -> None:
    net = Net(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=conv(8, 8, 1), b=conv(8, 8, 1))
    assert of(net) == ["a", "b", "cat"]


def test_a_shortcut_is_sure_only_where_no_other_tensor_has_its_shape() -> None:
    only = Net(lambda m, x: m.b(m.a(x)) + x, a=conv(8, 4, 1), b=conv(4, 8, 3))
    another = Net(lambda m, x: m.b(m.a(x)) + x, a=conv(8, 8, 3), b=conv(8, 8, 3))
    assert of(only) == [(["a", "b"], "shortcut", "add")]
    assert of(another) == [(["a", "b"], "shortcut, likely", "add")]


def test_a_fork_inside_a_branch_and_a_stem_before_it() -> None:
    net = Net(
        lambda m, x: (lambda s: torch.cat([m.a(s), (lambda t: torch.cat([m.c(t), m.d(t)], 1))(m.b(s))], 1))(m.stem(x)),
        stem=conv(8, 6, 3), a=conv(6, 4, 1), b=conv(6, 5, 1), c=conv(5, 3, 3), d=conv(5, 3, 1),
    )  # fmt: skip
    assert of(net) == ["stem", (["a"], ["b", (["c"], ["d"], "cat")], "cat")]


def test_what_takes_a_tensor_that_is_not_there_is_never_a_branch() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        m.a(x)
        return m.b(x[:, :3]) + x

    assert of(Net(forward, a=conv(8, 4, 1), b=conv(3, 8, 3))) == ["a", "b", "add"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_later_block_forks_from_the_join_before_it(order: tuple[int, int]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.b(m.a(x)) + m.s(x)
        both = [lambda: m.d(m.c(x)), lambda: m.t(x)]
        return both[order[0]]() + both[order[1]]()

    layers = {"a": conv(8, 4, 3), "b": conv(4, 16, 3), "s": conv(8, 16, 1)}
    layers |= {"c": conv(16, 4, 3), "d": conv(4, 32, 3), "t": conv(16, 32, 1)}
    found = drawn([p for p in parts(account(Net(forward, **layers).eval(), SHAPE).rows) if isinstance(p, Split)])
    assert found == [(["a", "b"], ["s"], "add"), (*[(["c", "d"], ["t"])[i] for i in order], "add")]


def test_torchvisions_googlenet_and_inception_v3_have_their_papers_branches() -> None:
    with torch.device("meta"):
        nets = models.googlenet(weights=None, init_weights=False), models.inception_v3(weights=None, init_weights=False)
    google, third = (
        {p.name: p for p in parts(account(n.eval(), (3, 299, 299)).rows) if isinstance(p, Part)} for n in nets
    )
    modules = [p for name, p in google.items() if name.startswith("inception")]
    assert len(modules) == 9
    for p in modules:
        assert drawn(p.inside) == [(["branch1"], ["branch2"], ["branch3"], ["branch4"], "cat")]
    ends = (["branch3x3_2a"], ["branch3x3_2b"], "cat"), (["branch3x3dbl_3a"], ["branch3x3dbl_3b"], "cat")
    rows = [["branch1x1"], ["branch3x3_1", ends[0]], ["branch3x3dbl_1", "branch3x3dbl_2", ends[1]]]
    assert drawn(third["Mixed_7c"].inside) == [(*rows, ["avg_pool2d", "branch_pool"], "cat")]


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v3_large", "mobilenet_v2", "convnext_tiny"]
)
def test_every_residual_block_of_torchvisions_is_a_split(name: str) -> None:
    with torch.device("meta"):
        net = getattr(models, name)(weights=None)
    table = account(net.eval(), (3, 224, 224))

    def splits(pieces: Sequence[Piece]) -> int:
        inner = [b for p in pieces if isinstance(p, Split) for b in p.branches]
        inner += [p.inside for p in pieces if isinstance(p, Part)]
        return sum(isinstance(p, Split) for p in pieces) + sum(map(splits, inner))

    assert splits(parts(table.rows)) == sum(r.op == "add" for r in table.rows)


def test_every_row_is_drawn_once_and_names_lead_to_it() -> None:
    with torch.device("meta"):
        net = models.densenet121(weights=None)
    rows = account(net.eval(), (3, 224, 224)).rows

    def leaves(pieces: Sequence[Piece], path: str) -> list[object]:
        out: list[object] = []
        for p in pieces:
            for q in [p] if isinstance(p, Part) else [*(x for b in p.branches for x in b), p.join]:
                if isinstance(q, Split):
                    out += leaves([q], path)
                elif q.inside:
                    assert q.path == f"{path}.{q.name}".strip(".")
                    out += leaves(q.inside, q.path)
                else:
                    assert q.path == q.rows[0].path and q.path.startswith(path)
                    out += q.rows
        return out

    assert leaves(parts(rows), "") == list(rows)
    assert parts(()) == ()
