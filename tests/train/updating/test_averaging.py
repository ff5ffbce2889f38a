"""The average of weights by its formula, and batch norm's statistics against those of all images at once."""

import torch
from torch import nn

from convatlas.train.updating.averaging import Average, statistics_anew


def test_the_average_follows_its_formula() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    average = Average(net, 0.99)
    expected = net.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            net.weight += 0.1 * step
        average.update(net, step)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.weight.detach()
    assert torch.allclose(average.tensors["weight"], expected, rtol=1e-13, atol=0)


def test_an_average_is_in_place_for_a_while_only() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    average, before = Average(net, 0.5), net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight += 1
    own = {k: v.clone() for k, v in net.state_dict().items()}
    with average.in_place(net):
        assert torch.equal(net[0].weight, before)
    assert all(torch.equal(v, own[k]) for k, v in net.state_dict().items())


def test_a_saved_average_goes_on() -> None:
    net = nn.BatchNorm1d(3)
    average = Average(net, 0.9)
    net.running_mean.fill_(4.0)
    net.num_batches_tracked.fill_(7)
    average.update(net, 100)
    again = Average(net, 0.9, {k: v.clone() for k, v in average.tensors.items()})
    assert all(torch.equal(again.tensors[k], v) for k, v in average.tensors.items())
    assert again.tensors["num_batches_tracked"] == 7


def test_statistics_are_those_of_all_images() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    images = torch.randn(64, 1, 8, 8) * 3 + 1
    net(images)  # statistics of before, which must not stay
    weights = [p.clone() for p in net.parameters()]
    with statistics_anew(net):
        for part in images.split(16):
            net(part)
    maps = net[0](images).detach()
    assert torch.allclose(net[1].running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-5)
    variances = torch.stack([m.var(dim=(0, 2, 3)) for m in maps.split(16)]).mean(dim=0)
    assert torch.allclose(net[1].running_var, variances, rtol=1e-5)
    assert net.training and net[1].momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
