"""Predicted times: features by hand, the solver against SciPy's, and prices that are known found again."""

import subprocess
import sys
from dataclasses import replace
from math import exp, log
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import nn

from convatlas import catalogue
from convatlas.account import account
from convatlas.compare import prediction
from convatlas.compare.prediction import FEATURES, Calibration, Ratio, features, fit, nnls, predict, predict_step
from convatlas.errors import BadData, SaveFailed, UnknownName
from convatlas.result import Machine, Timing

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 1)
# At two batch sizes they separate all features.
NETWORKS = (
    *(
        "lenet5",
        "alexnet",
        "zfnet",
        "nin",
        "vgg11",
        "googlenet",
        "googlenet_bn",
        "inception_v3",
        "resnet18",
        "resnet50",
    ),
    *("resnext50_32x4d", "densenet121", "squeezenet1_0", "enet", "wrn16_8_cifar", "densenet40_k12_cifar"),
)


def measured(prices: dict[str, float], names: tuple[str, ...] = NETWORKS, **changes: object) -> SimpleNamespace:
    """What a machine would measure whose times are exactly that sum; steps take 3 times (2 without batch norm)."""
    forwards = []
    for name in names:
        table = catalogue.table(name)
        for batch in (1, 8):
            ms = sum(prices[f] * amount for f, amount in features(table, batch).items())
            forwards.append(SimpleNamespace(table=table, timing=Timing(batch, ms, 0.9 * ms, 1.1 * ms, 9)))
    steps = [
        SimpleNamespace(network="a", normalised=False, forward_ms=5.0, gradients_ms=10.0, update_ms=4.0, params=2e6),
        SimpleNamespace(network="b", normalised=True, forward_ms=5.0, gradients_ms=10.0, update_ms=2.0, params=1e6),
        SimpleNamespace(network="c", normalised=True, forward_ms=5.0, gradients_ms=22.5, update_ms=2.0, params=1e6),
    ]
    whole = {"forwards": forwards, "steps": steps, "machine": MACHINE, "versions": {"torch": "2.14.1"}}
    return SimpleNamespace(**whole, **{"engine": "torch", "seconds": 60.0, "processor": 0.99, **changes})


PRICES = dict(
    zip(FEATURES, (1e-8, 9e-9, 2e-8, 2e-8, 3e-8, 5e-8, 2e-7, 4e-8, 6e-8, 1e-7, 2e-6, 8e-8, 0.02, 0.01), strict=True)
)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(measured(PRICES))


def test_features_are_those_counted_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 16, 1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.Conv2d(16, 8, 2, stride=2),
        nn.Conv2d(8, 8, 1),
        nn.LocalResponseNorm(5),
        nn.Flatten(),
        nn.Linear(8 * 5 * 5, 10),
    ).eval()
    found = features(account(net, (3, 20, 20)), batch=2)
    weights = 32 * 27 + 32 + 32 * 16 + 16 + 16 * 4 * 9 + 16 + 8 * 16 * 4 + 8 + 8 * 8 + 8
    expected = {
        "MACs of KxK convolutions": 2 * 8 * 16 * 2 * 2 * 25,
        "MACs of 1x1 convolutions": 2 * 16 * 32 * 400,
        "MACs of 1x1 convolutions on small maps": 0,
        "MACs of grouped convolutions": 2 * 16 * 4 * 9 * 100,
        "MACs of convolutions of few channels": 2 * 32 * 27 * 400 + 2 * 8 * 8 * 25,
        "MACs of linear layers": 2 * 200 * 10,
        "bytes of convolutions' weights": 4 * weights,
        "bytes of convolutions' weights for each image": 2 * 4 * weights,
        "bytes of linear layers' weights": 4 * (200 * 10 + 10),
        "bytes through pooling windows": 2 * 4 * 16 * 100 * 4,
        "bytes through local response normalisation": 2 * 4 * 2 * 8 * 25,
        # The first batch norm is folded, the second stands behind a pooling. ReLU reads and writes.
        "bytes through other operations": 2 * 4 * 2 * (32 * 400 + 16 * 100),
        "convolutions": 5,
        "other operations": 5,
    }
    assert found == expected
    assert list(found) == list(FEATURES)


def test_a_1x1_on_small_maps_is_another_feature() -> None:
    found = features(account(nn.Conv2d(16, 4, 1), (16, 7, 7)))
    assert found["MACs of 1x1 convolutions on small maps"] == 16 * 4 * 49
    assert found["MACs of 1x1 convolutions"] == 0


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_the_solver_finds_what_scipy_finds(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    a, b = rng.standard_normal((m, n)), rng.standard_normal(m)
    if data.draw(st.booleans()):
        a[:, 0] = a[:, -1]  # two that cannot be told apart
    found, (theirs, residual) = nnls(a, b), optimize.nnls(a, b)
    assert (found >= 0).all()
    assert np.linalg.norm(a @ found - b) == pytest.approx(residual, abs=1e-9)
    assert a @ found == pytest.approx(a @ theirs, abs=1e-7)


@given(st.lists(st.floats(0.2, 5.0), min_size=len(FEATURES), max_size=len(FEATURES)))
@settings(max_examples=12, deadline=None)
def test_prices_that_are_known_are_found_again(factors: list[float]) -> None:
    prices = {name: PRICES[name] * factor for name, factor in zip(FEATURES, factors, strict=True)}
    found = fit(measured(prices))
    assert found.prices == pytest.approx(prices, rel=1e-4)
    assert found.error_90 < 1e-4
    for name in ("resnet101", "vgg16", "preresnet50"):
        wanted = sum(prices[f] * amount for f, amount in features(catalogue.table(name), 4).items())
        assert predict(name, found, 4).ms == pytest.approx(wanted, rel=1e-6)


def test_a_network_is_judged_by_prices_that_have_not_seen_it() -> None:
    given = measured(PRICES)
    for f in given.forwards:
        if f.table.network == "resnet18":  # a machine on which this network alone takes twice as long
            f.timing = replace(f.timing, median_ms=2 * f.timing.median_ms)
    found = {(p.network, p.batch): p for p in fit(given).points}
    assert found["resnet18", 8].unseen_ms == pytest.approx(found["resnet18", 8].measured_ms / 2, rel=1e-5)
    assert found["resnet18", 8].error == pytest.approx(log(2), rel=1e-4)
    assert found["resnet18", 8].predicted_ms > 1.001 * found["resnet18", 8].unseen_ms


def test_the_error_is_the_median_and_the_90_percent_quantile() -> None:
    given = measured(PRICES)
    for f, off in zip(given.forwards, np.random.default_rng(0).uniform(0.7, 1.4, len(given.forwards)), strict=True):
        f.timing = replace(f.timing, median_ms=off * f.timing.median_ms)
    found = fit(given)
    errors = sorted(abs(log(p.unseen_ms) - log(p.measured_ms)) for p in found.points)
    assert sum(e <= found.error_median for e in errors) == len(errors) // 2
    assert sum(e <= found.error_90 for e in errors) == int(0.9 * (len(errors) - 1)) + 1


def test_the_range_is_the_one_that_nine_of_ten_keep(calibration: Calibration) -> None:
    wide = replace(calibration, error_90=log(1.25))
    found = predict("resnet18", wide)
    assert (found.low_ms, found.high_ms) == pytest.approx((found.ms / 1.25, found.ms * 1.25))


def test_a_step_is_the_forward_time_by_its_kind_and_the_update(calibration: Calibration) -> None:
    assert [(r.kind, r.networks) for r in calibration.ratios] == [
        ("without batch norm", ("a",)),
        ("with batch norm", ("b", "c")),
    ]
    assert [r.times for r in calibration.ratios] == pytest.approx([2.0, 3.0])
    for name, times in (("vgg11", 2), ("resnet18", 3)):
        params = catalogue.catalogue().networks[name].params
        wanted = predict(name, calibration, 16).ms * times + 2.0 * params / 1e6
        assert predict_step(name, calibration, 16).ms == pytest.approx(wanted)
    found = predict_step("resnet18", calibration, 16)
    spread = exp(calibration.error_90) * 4.5 / 3
    assert (found.low_ms, found.high_ms) == pytest.approx((found.ms / spread, found.ms * spread))


def test_one_kind_stands_for_the_other_where_only_it_was_measured(calibration: Calibration) -> None:
    lone = replace(calibration, ratios=calibration.ratios[:1])
    assert lone.ratio(normalised=True).kind == "without batch norm"


def test_an_unknown_network_is_refused(calibration: Calibration) -> None:
    with pytest.raises(UnknownName, match=r"^no network named 'resnet19'; did you mean resnet18"):
        predict("resnet19", calibration)


def test_the_text_shows_predicted_against_measured_with_the_error() -> None:
    known = Ratio("with batch norm", 3.0, 2.0, 4.5, ("b", "c"))
    points = tuple(
        prediction.Point("resnet18", (3, 224, 224), batch, ms, ms, ms, ms, 1.1 * ms)
        for batch, ms in ((1, 20.0), (8, 160.0), (2, 40.0))
    )
    page = replace(
        fit(measured(PRICES)), points=points, ratios=(known,), error_median=log(1.07), error_90=log(1.25), when="today"
    )
    lines = page.as_text().splitlines()
    assert lines[2].split() == ["resnet18", "3x224x224", "1", "20.0", "ms", "22.0", "ms", "+10", "%"]
    assert lines[-1] == (
        "Calibrated on Processor X, 1 thread, torch 2.14.1, today: 3 forward times of 1 network. Each predicted from "
        "the others, half are off by at most 7 % and nine of ten by at most 25 %. Measured too: forward and backward "
        "pass against the forward pass alone, with batch norm 3 times (2 to 4.5; b, c); 2.00 ms to update a million "
        "parameters."
    )
    part = page.as_text(2)
    assert "160 ms" in part and "40.0 ms" not in part and "… and 1 more, which --json lists." in part


def test_a_busy_machine_is_said() -> None:
    assert "busy" not in fit(measured(PRICES)).summary()
    assert (
        fit(measured(PRICES, processor=0.45))
        .summary()
        .endswith(
            " The machine was busy: this process had a processor 45 % of the time, so that all times are too long; "
            "calibrate again when it is quiet (--recalibrate)."
        )
    )


def test_a_calibration_is_read_as_it_was_saved(calibration: Calibration, tmp_path: Path) -> None:
    file = tmp_path / "results" / prediction.FILE
    assert prediction.read(file) is None
    prediction.save(calibration, file)
    assert prediction.read(file) == calibration


def test_a_file_that_is_no_calibration_is_named(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text('{"machine": 3}')
    with pytest.raises(BadData) as error:
        prediction.read(file)
    assert str(error.value) == (
        f"{file} cannot be read as a calibration: Expected `object`, got `int` - at `$.machine`; "
        "--recalibrate makes it anew"
    )


def test_a_folder_that_cannot_be_made_is_named(calibration: Calibration, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(SaveFailed, match=r"^cannot write .*calibration\.json: File exists"):
        prediction.save(calibration, tmp_path / "results" / prediction.FILE)


def test_it_is_used_on_the_same_machine_only(calibration: Calibration) -> None:
    assert prediction.differs(calibration, replace(MACHINE, memory_bytes=1), "2.14.1") == ""
    other = Machine("Processor Y", 2, 8_000_000_000, "Linux x86_64", "cpu", 4)
    assert prediction.differs(calibration, other, "2.15.0") == (
        "processor Processor X, here Processor Y, threads 1, here 4, torch 2.14.1, here 2.15.0"
    )


def test_prices_of_another_version_are_not_used(calibration: Calibration) -> None:
    older = replace(calibration, prices={"operations": 0.1})
    assert prediction.differs(older, MACHINE, "2.14.1") == "prices of other features, by another version of ConvAtlas"


def test_predicting_needs_no_torch() -> None:
    code = (
        "import sys; from convatlas.compare import prediction, proposal; from convatlas.catalogue import table;"
        "prediction.features(table('resnet18'), 8); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
