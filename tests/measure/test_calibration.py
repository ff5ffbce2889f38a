"""Calibration: what is timed, at which sizes, and that a prediction can be fitted to it."""

import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.compare.prediction import fit
from convatlas.measure import calibration
from convatlas.measure.calibration import BATCHES, CASES, STEPS, Measured, calibrate, opened
from convatlas.measure.rounds import FEW
from convatlas.networks import NETWORKS, build

SOME = ("lenet5_relu:32", "resnet20_cifar:32", "bottleneck_block:28")


@pytest.fixture(scope="module")
def measured() -> Measured:
    return calibrate(0.5, cases=SOME, steps=("lenet5_relu:32:8", "resnet20_cifar:32:4"))


def test_every_case_is_timed_at_each_batch_with_its_account(measured: Measured) -> None:
    assert [(f.table.network, f.timing.batch) for f in measured.forwards] == [
        (case.split(":")[0], batch) for case in SOME for batch in BATCHES
    ]
    resnet = measured.forwards[2].table
    assert resnet.totals == account(build("resnet20_cifar").eval(), (3, 32, 32)).totals
    for f in measured.forwards:
        assert 0 < f.timing.low_ms <= f.timing.median_ms <= f.timing.high_ms


def test_the_parts_of_a_step_are_timed(measured: Measured) -> None:
    lenet, resnet = measured.steps
    assert (lenet.network, lenet.input, lenet.batch, lenet.normalised) == ("lenet5_relu", (1, 32, 32), 8, False)
    assert (resnet.batch, resnet.normalised) == (4, True)
    assert resnet.params == sum(p.numel() for p in build("resnet20_cifar").parameters())
    for step in measured.steps:
        assert min(step.forward_ms, step.gradients_ms, step.update_ms) > 0


def test_machine_threads_and_versions_are_kept(measured: Measured) -> None:
    assert (measured.machine.device, measured.machine.threads) == ("cpu", torch.get_num_threads())
    assert measured.versions["torch"] == torch.__version__.split("+")[0]
    assert measured.engine == "torch" and measured.seconds > 0.3 and 0 < measured.processor <= 1


def test_a_prediction_is_fitted_to_it(measured: Measured) -> None:
    found = fit(measured)
    assert len(found.points) == len(measured.forwards)
    assert [r.kind for r in found.ratios] == ["without batch norm", "with batch norm"]
    assert min(found.prices.values()) >= 0 < max(found.prices.values())


def test_a_gradient_step_changes_weights_as_sgd_does() -> None:
    """The parts that are timed are a whole step: the same loop written by hand ends with the same weights."""
    training = calibration._Training("lenet5_relu:32:8")
    by_hand, _ = opened("lenet5_relu", 32)
    by_hand.train()
    rule = torch.optim.SGD(by_hand.parameters(), 1e-6, momentum=0.9, weight_decay=1e-4)
    images = training.images.clone()
    for _ in range(2):
        training.gradients.call()
        training.update.call()
        rule.zero_grad()
        nn.CrossEntropyLoss()(by_hand(images), torch.zeros(8, dtype=torch.int64)).backward()
        rule.step()
    training.close()
    pairs = zip(training.net.parameters(), by_hand.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in pairs)
    before = build("lenet5_relu").state_dict()
    assert any(not torch.equal(a, before[name]) for name, a in by_hand.state_dict().items())


def test_cases_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that drifts must not make the networks that come last look slow."""
    order: list[int] = []

    class Sleeper:
        def __init__(self, number: int):
            self.number = number

        def ready(self, images: object) -> object:
            def call() -> None:
                order.append(self.number)
                time.sleep(0.001)

            return call

        def close(self) -> None:
            order.append(-1)

    opened_so_far = iter(range(9))
    monkeypatch.setattr(calibration, "open_engine", lambda *_: Sleeper(next(opened_so_far)))
    calibrate(0.05, cases=("lenet5:32", "lenet5_relu:32", "lenet5:28"), steps=())
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > 3 * FEW
    assert order[-3:] == [-1, -1, -1]


def test_a_module_of_a_network_is_closed_by_pooling_which_changes_no_count() -> None:
    net, shape = opened("bottleneck_block", 28)
    images = torch.zeros(2, *shape)
    assert net(images).shape == (2, 256)
    alone = account(build("bottleneck_block").eval(), shape).totals
    assert (account(net, shape).totals.macs, account(net, shape).totals.params) == (alone.macs, alone.params)


@pytest.mark.parametrize("case", [*CASES, *STEPS])
def test_the_cases_are_networks_that_take_that_size(case: str) -> None:
    name, size, *_ = case.split(":")
    assert NETWORKS[name].smallest <= int(size) <= NETWORKS[name].input[1]


def test_a_few_hidden_operations_have_two_networks_at_least() -> None:
    """A price that one network alone decides cannot be judged by leaving that network out."""
    grouped, normalised = set(), set()
    for case in CASES:
        name, size = case.split(":")
        with torch.device("meta"):
            net = build(name, input=(int(size), int(size)))
        for m in net.modules():
            if isinstance(m, nn.Conv2d) and m.groups > 1:
                grouped.add(name)
            if isinstance(m, nn.LocalResponseNorm):
                normalised.add(name)
    assert len(grouped) >= 2 and len(normalised) >= 2
