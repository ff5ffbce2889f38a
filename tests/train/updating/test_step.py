"""One update: parts that add up, precision, clipping, weights of classes, and what stops it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas.data.augment import parse
from convatlas.data.loader import Batch
from convatlas.errors import NonFinite, RunFailed
from convatlas.layers import Heads
from convatlas.paper import Recipe
from convatlas.train.processes import Processes
from convatlas.train.updating import optimisers
from convatlas.train.updating.step import Stepper, optimised, settle


def small(norm: bool = False, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    middle: nn.Module = nn.BatchNorm2d(4) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def batch(images: int = 12) -> Batch:
    torch.manual_seed(1)
    return Batch(torch.randn(images, 1, 8, 8), torch.arange(images) % 3, (), 0, images)


def stepper(net: nn.Module, recipe: Recipe, **changes: Any) -> Stepper:
    given = {"plan": parse(()), "device": torch.device("cpu"), "processes": Processes(), "seed": 0, "classes": 3}
    return Stepper(net, optimisers.make(net, recipe), recipe, **(given | changes))


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_batch_in_parts_makes_the_update_of_the_whole(parts: int) -> None:
    whole, other = small(), small()
    recipe = Recipe(lr=0.1, label_smoothing=0.1)
    for number in range(3):
        stepper(whole, recipe).step(batch(), 0.1, number, 1)
        stepper(other, recipe, parts=parts).step(batch(), 0.1, number, 1)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_the_update_is_that_of_the_mean_loss() -> None:
    ours, theirs = small(), small()
    done = stepper(ours, Recipe(lr=0.1, label_smoothing=0.2)).step(batch(), 0.1, 0, 1)
    optimiser = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    given = batch()
    logits = theirs(given.images)
    loss = nn.functional.cross_entropy(logits, given.labels, label_smoothing=0.2)
    loss.backward()
    optimiser.step()
    assert torch.allclose(torch.as_tensor(done.loss) / 12, loss.detach(), rtol=1e-5)
    assert int(done.correct) == int((logits.argmax(1) == given.labels).sum()) and done.images == 12
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_classes_weigh_as_given() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    weights = torch.tensor([0.5, 2.0, 2.0])  # 1 on average over these labels
    _, loss, _ = optimised(logits, labels, weights=weights)
    assert torch.allclose(loss / 6, nn.functional.cross_entropy(logits, labels, weight=weights))


def test_a_gradient_is_clipped_to_its_norm() -> None:
    net = small()
    before = [p.detach().clone() for p in net.parameters()]
    maker = stepper(net, Recipe(lr=1.0, momentum=0.0, clip=0.25))
    done = maker.step(batch(), 1.0, 0, 1)
    moved = torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(before, net.parameters(), strict=True)))
    assert torch.linalg.vector_norm(torch.stack(done.norms)) > 0.25  # what is logged is the gradient itself
    assert moved.item() == pytest.approx(0.25, rel=1e-4)


class Hungry(nn.Module):
    """Stands for a device whose memory holds so many images at once."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


def test_too_large_a_batch_is_worked_off_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    hungry = nn.Sequential(*small(norm=True), Hungry(4))
    fed = nn.Sequential(*small(norm=True), Hungry(99))
    maker, other = stepper(hungry, Recipe(batch=12)), stepper(fed, Recipe(batch=12), parts=4)
    maker.step(batch(), 0.1, 0, 1)
    other.step(batch(), 0.1, 0, 1)
    assert maker.parts == 4
    # Batch norm's statistics too: the forward passes that failed left no trace.
    assert all(torch.equal(a, b) for a, b in zip(hungry.state_dict().values(), fed.state_dict().values(), strict=True))
    assert capsys.readouterr().err.splitlines() == [
        "convatlas: out of memory with 12 images at once: from here on each batch of 12 is worked off in 2 parts; the "
        "updates stay those of the whole batch",
        "convatlas: out of memory with 6 images at once: from here on each batch of 12 is worked off in 4 parts; the "
        "updates stay those of the whole batch",
    ]


def test_what_does_not_fit_at_all_ends_with_a_line() -> None:
    net = nn.Sequential(*small(), Hungry(1))
    with pytest.raises(RunFailed) as caught:
        stepper(net, Recipe(batch=12)).step(batch(), 0.1, 0, 1)
    assert str(caught.value) == (
        "out of memory on cpu while training with 3 images at once; start anew with a smaller input (--set size=...), "
        "or with the batch in parts (--set parts=...)"
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precision_makes_nearly_the_same_update(precision: Any) -> None:
    whole, other = small(), small()
    stepper(whole, Recipe(lr=0.1)).step(batch(), 0.1, 0, 1)
    stepper(other, Recipe(lr=0.1, precision=precision)).step(batch(), 0.1, 0, 1)
    moved = [(a - b).abs().max().item() for a, b in zip(whole.parameters(), small().parameters(), strict=True)]
    apart = [(a - b).abs().max().item() for a, b in zip(whole.parameters(), other.parameters(), strict=True)]
    assert 0 < max(apart) < 0.05 * max(moved)
    assert all(p.dtype == torch.float32 for p in other.parameters())


def test_heads_share_the_loss_by_their_weight() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    auxiliary = torch.randn(4, 3)
    _, loss, heads = optimised(Heads(logits, (auxiliary, auxiliary), 0.3), labels)
    entropy = nn.functional.cross_entropy
    assert torch.allclose(loss / 4, entropy(logits, labels) + 0.6 * entropy(auxiliary, labels))
    assert torch.allclose(heads / 4, entropy(auxiliary, labels).expand(2))


def test_the_recipe_settles_dropout() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.1))
    settle(net, Recipe())
    assert (net[0].p, net[1].p) == (0.5, 0.1)
    settle(net, Recipe(dropout=0.3))
    assert (net[0].p, net[1].p) == (0.3, 0.3)


class Scaled(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def stopped(net: nn.Module, recipe: Recipe, given: Batch) -> str:
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(NonFinite) as caught:
        stepper(net, recipe).step(given, recipe.lr, 4, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    return str(caught.value)


def test_images_that_are_no_numbers_are_named() -> None:
    given = batch()
    given.images[3, 0, 2, 2] = float("nan")
    assert stopped(small(), Recipe(), given) == (
        "the loss is nan: the images hold numbers that are not finite in step 5 (epoch 2); stopped before the weights "
        "changed; the normalisation or an augmentation made them; look at config.json's mean and std"
    )


def test_the_layer_where_it_begins_is_named() -> None:
    net = nn.Sequential(small()[0], Scaled(1e30), Scaled(1e30), *small()[2:])
    assert stopped(net, Recipe(lr=0.5), batch()).startswith(
        "the loss is nan, which begins at the output of 2 in step 5"
    )


def test_an_overflow_of_fp16_is_told_apart() -> None:
    net = nn.Sequential(small()[0], Scaled(1e6), *small()[2:])
    assert stopped(net, Recipe(precision="fp16"), batch()).endswith(
        "fp16 holds no number beyond 65,504; use --set precision=bf16 or fp32"
    )


def test_a_scale_of_fp16_that_is_too_large_is_lowered() -> None:
    net = small()
    maker = stepper(net, Recipe(precision="fp16"))
    assert maker.scaler is not None
    maker.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [p.detach().clone() for p in net.parameters()]
    maker.step(batch(), 0.1, 0, 1)
    assert maker.scaler.get_scale() == 2.0**39
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
