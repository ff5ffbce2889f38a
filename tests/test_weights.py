"""Weights on disk: what is written comes back; what is damaged, hostile or of another shape is refused in one line."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas import weights
from convatlas.errors import BadCheckpoint, SaveFailed
from convatlas.layers import chain, conv_bn
from convatlas.networks import build


def small(classes: int = 3) -> nn.Module:
    torch.manual_seed(classes)
    return chain(conv1=conv_bn(2, 4, 3), fc=nn.Linear(4, classes))


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    net = build("lenet5", seed=1)
    weights.save(net, tmp_path / "w.safetensors")
    state = weights.load(tmp_path / "w.safetensors")
    other = build("lenet5", seed=2)
    weights.fill(other, state, "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]
    with safetensors.safe_open(tmp_path / "w.safetensors", "pt") as file:  # the format's own reader agrees
        assert set(file.keys()) == set(net.state_dict())


def test_equal_tensors_give_equal_bytes_whatever_their_strides_and_order(tmp_path: Path) -> None:
    state = build("resnet20_cifar").state_dict()
    weights.save(state, tmp_path / "a")
    turned = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in reversed(state.items())}
    weights.save(turned, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    weights.save({"a": base, "b": base, "c": base.T, "d": base[1], "e": base[:, :1].expand(3, 5)}, tmp_path / "w")
    state = weights.load(tmp_path / "w")
    assert torch.equal(state["c"], base.T)
    assert torch.equal(state["e"], base[:, :1].expand(3, 5))


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SaveFailed, match=re.escape(f"cannot write {tmp_path / 'none' / 'w'}: No such file or directory")
    ):
        weights.save(small(), tmp_path / "none" / "w")


def test_refusals_of_load(tmp_path: Path) -> None:
    net = small()
    whole, cut, text, empty = (tmp_path / n for n in ("whole", "cut", "text", "empty"))
    weights.save(net, whole)
    cut.write_bytes(whole.read_bytes()[:-8])
    text.write_text("these are no weights, but a page of text")
    empty.write_bytes(b"")
    torch.save(net.state_dict(), tmp_path / "new.pth")
    torch.save(net.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert (
        refusal(weights.load, tmp_path / "none")
        == f"no weights at {tmp_path}/none; give the path of a .safetensors file"
    )
    assert refusal(weights.load, tmp_path) == f"{tmp_path} cannot be read: Is a directory; give the path of a file"
    for name in ("new.pth", "old.pth"):
        assert refusal(weights.load, tmp_path / name) == (
            f"{tmp_path}/{name} is not safetensors but a torch file (a pickle), which is not read here; "
            "convert it with weights.read_foreign and weights.save"
        )
    for damaged in (cut, text, empty):
        message = refusal(weights.load, damaged)
        assert message.startswith(f"{damaged} is not a whole safetensors file: ")
        assert message.endswith("; copy or download it again")


def test_truncated_at_every_length_or_with_a_bit_flipped_it_is_refused_or_whole(tmp_path: Path) -> None:
    weights.save(small(), tmp_path / "w")
    data = (tmp_path / "w").read_bytes()
    shapes = {n: t.shape for n, t in weights.load(tmp_path / "w").items()}
    for length in range(0, len(data), max(1, len(data) // 100)):
        (tmp_path / "cut").write_bytes(data[:length])
        refusal(weights.load, tmp_path / "cut")
    head = 8 + struct.unpack("<Q", data[:8])[0]
    for place in range(0, head, 7):
        (tmp_path / "flip").write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            state = weights.load(tmp_path / "flip")
        except BadCheckpoint as error:
            assert "\n" not in str(error)
        else:  # a flip inside a name: still tensors, and `fill` refuses the name
            assert sorted(t.shape for t in state.values()) == sorted(shapes.values())


@pytest.mark.parametrize("length", [0x280, 0x480, 0x1080])
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    """The length stands in the first bytes, and 0x280 in little-endian is 80 02, a pickle's first two."""
    state = {"a": torch.arange(3.0)}
    bare = safetensors.torch.save(state, {"note": ""})
    head = struct.unpack("<Q", bare[:8])[0]
    data = safetensors.torch.save(state, {"note": "x" * (length - len(bare[8 : 8 + head].rstrip()))})
    assert data[:2] == struct.pack("<H", length)
    (tmp_path / "w").write_bytes(data)
    for read in (weights.load, weights.read_foreign):
        assert torch.equal(read(tmp_path / "w")["a"], state["a"])


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        {"a": 5},
        [],
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    refusal(weights.load, tmp_path / "w")
    (tmp_path / "w").write_bytes(struct.pack("<Q", 2**62) + text)
    refusal(weights.load, tmp_path / "w")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04"]))
def test_any_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes, start: bytes) -> None:
    (tmp_path / "w").write_bytes(start + content)
    for read in (weights.load, weights.read_foreign):
        try:
            read(tmp_path / "w")
        except BadCheckpoint as error:
            assert "\n" not in str(error)


class Canary:
    """Its pickle creates a file when it is loaded by a reader that runs code."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Canary(canary)}, tmp_path / "zip.pth")
    torch.save(Canary(canary), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Canary(canary), protocol=2))
    (tmp_path / "nested.pth").write_bytes(pickle.dumps({"state_dict": [Canary(canary)]}, protocol=2))
    for name in ("zip.pth", "old.pth", "bare.pth", "nested.pth"):
        message = refusal(weights.read_foreign, tmp_path / name)
        assert not canary.exists()
        refusal(weights.load, tmp_path / name)
        assert not canary.exists()
        assert message == (
            f"{tmp_path}/{name} asks for posix.mkdir, which could run code, and was refused; "
            "only files of plain tensors are read, save its state_dict() alone"
        )
    pickle.loads((tmp_path / "bare.pth").read_bytes())
    assert canary.exists()  # so the canary does sing where code runs


def test_foreign_files_of_tensors_are_read(tmp_path: Path) -> None:
    state = small().state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save(
        {"state_dict": OrderedDict((f"module.{n}", t) for n, t in state.items()), "epoch": 9}, tmp_path / "wrapped.tar"
    )
    torch.save(state, tmp_path / "old.th", _use_new_zipfile_serialization=False)
    weights.save(state, tmp_path / "ours.safetensors")
    for name in ("plain.pth", "wrapped.tar", "old.th", "ours.safetensors"):
        found = weights.read_foreign(tmp_path / name)
        assert set(found) == set(state), name
        assert all(torch.equal(found[n], state[n]) for n in state), name
    assert list(weights.read_foreign(tmp_path / "wrapped.tar")) == list(state)


def test_refusals_of_foreign_files(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    for content, text in [
        (torch.ones(3), "holds a Tensor, not a dictionary of tensors; save the network's state_dict()"),
        ({}, "holds an empty dict, not a dictionary of tensors; save the network's state_dict()"),
        ({"a": 5}, "holds a int under 'a', not a plain tensor; save the network's state_dict() alone"),
        ({7: torch.ones(1)}, "holds a Tensor under '7', not a plain tensor; save the network's state_dict() alone"),
        (
            {"a": torch.ones(2, 2).to_sparse()},
            "holds a Tensor under 'a', not a plain tensor; save the network's state_dict() alone",
        ),
        (
            {"a": torch.ones(2, device="meta")},
            "holds a Tensor under 'a', not a plain tensor; save the network's state_dict() alone",
        ),
    ]:
        torch.save(content, file)
        assert refusal(weights.read_foreign, file) == f"{file} {text}"
    torch.save(small().state_dict(), file)
    data = file.read_bytes()
    for length in range(4, len(data), len(data) // 20):
        file.write_bytes(data[:length])
        message = refusal(weights.read_foreign, file)
        assert message.startswith(f"{file} is not a whole torch file: ")
        assert message.endswith("; copy or download it again")


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    message = refusal(weights.read_foreign, tmp_path / "bomb.pth")
    assert re.fullmatch(
        re.escape(f"{tmp_path}/bomb.pth claims ")
        + r"40\d{5} bytes of records, more than the file has; copy or download it again",
        message,
    )


def test_fill_shows_both_sides_and_copies_nothing_before() -> None:
    net, other = small(3), small(5)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    assert refusal(weights.fill, net, other.state_dict(), "run/model.safetensors") == (
        "run/model.safetensors does not fit the network: - fc.weight (3, 4) + fc.weight (5, 4), "
        "- fc.bias (3,) + fc.bias (5,) "
        "(- expected, + found); give weights of the same network, classes and channels"
    )
    state = dict(net.state_dict())
    del state["fc.bias"]
    state["head.bias"] = torch.ones(3)
    state["conv1.bn.num_batches_tracked"] = torch.tensor(1.0)
    assert refusal(weights.fill, net, state, "w") == (
        "w does not fit the network: - conv1.bn.num_batches_tracked () int64 + conv1.bn.num_batches_tracked (), "
        "- fc.bias (3,), + head.bias (3,) "
        "(- expected, + found); give weights of the same network, classes and channels"
    )
    assert refusal(weights.fill, net, {}, "w").endswith(
        "- conv1.bn.running_mean (4,), and 4 more "
        "(- expected, + found); give weights of the same network, classes and channels"
    )
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


def test_fill_takes_half_and_double_floats() -> None:
    net, source = small(3), small(3)
    weights.fill(net, {n: t.double() if t.is_floating_point() else t for n, t in source.state_dict().items()}, "w")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), source.state_dict().values(), strict=True))
    assert net.fc.weight.dtype == torch.float32


def test_fill_by_order_ignores_names_and_counters() -> None:
    net, source = small(3), small(3)
    renamed = {f"x{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(source.state_dict().items())}
    del renamed["x5.num_batches_tracked"]
    weights.fill_by_order(net, renamed, "w")
    assert torch.equal(net.fc.weight, source.fc.weight)
    assert torch.equal(net.conv1.bn.running_var, source.conv1.bn.running_var)


def test_fill_by_order_refuses_another_order_shape_or_length() -> None:
    net = small(3)
    state: dict[str, Tensor] = dict(net.state_dict())
    swapped = {n: state[n] for n in (*list(state)[:1], "conv1.bn.bias", "conv1.bn.weight", *list(state)[3:])}
    assert refusal(weights.fill_by_order, net, swapped, "w") == (
        "w does not fit the network entry by entry: - conv1.bn.weight (4,) + conv1.bn.bias (4,), "
        "- conv1.bn.bias (4,) + conv1.bn.weight (4,) "
        "(- expected, + found); give weights of the same network, classes and channels"
    )
    assert refusal(weights.fill_by_order, net, small(4).state_dict(), "w") == (
        "w does not fit the network entry by entry: - fc.weight (3, 4) + fc.weight (4, 4), "
        "- fc.bias (3,) + fc.bias (4,) "
        "(- expected, + found); give weights of the same network, classes and channels"
    )
    assert refusal(weights.fill_by_order, net, dict(list(state.items())[:-1]), "w") == (
        "w does not fit the network entry by entry: - 7 entries + 6 entries "
        "(- expected, + found); give weights of the same network, classes and channels"
    )


def test_a_huge_claim_costs_no_memory(tmp_path: Path) -> None:
    """A small torch file may say that one number stands for a thousand million; nothing of that size is made."""
    torch.save({"fc.weight": torch.ones(1).expand(10**9)}, tmp_path / "wide.pth")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom convatlas import weights\n"
        "from convatlas.errors import BadCheckpoint\n"
        "from torch import nn\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "state = weights.read_foreign(Path(sys.argv[1]))\n"
        "try: weights.fill(nn.Linear(2, 2), state, 'w')\nexcept BadCheckpoint: pass\nelse: sys.exit('was taken')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "wide.pth"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000  # kB
