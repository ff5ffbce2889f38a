"""CSV lists of images, and every line that can be wrong."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import listing, open_data
from convatlas.errors import BadData, BadImage


def photos(folder: Path, names: list[str], mode: str = "RGB") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (4, 3)).save(folder / name)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "path,label", "filename,class", "File,Label", "n,image,x,label", "label,path"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\r\n"])
def test_columns_by_header_or_by_place(tmp_path: Path, delimiter: str, header: str, start: str) -> None:
    rows = [("b/1.png", "cat"), ("a/2.png", "dog"), ("3.png", "cat"), ("4, 5;6.png", "dog")]
    photos(tmp_path, [name for name, _ in rows])
    columns = header.split(",") if header else ["path", "label"]
    label = next(i for i, c in enumerate(columns) if c.lower() in ("label", "class"))
    place = next(i for i, c in enumerate(columns) if c.lower() in ("path", "filename", "file", "image"))
    with (tmp_path / "list.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(start)
        out = csv.writer(file, delimiter=delimiter)
        if header:
            out.writerow(columns)
        for name, what in rows:
            out.writerow([{place: name, label: what}.get(i, "0") for i in range(len(columns))])
    data = open_data(tmp_path / "list.csv", validation=0)
    assert data.name == "list" and data.classes == ("cat", "dog") and data.channels == 3
    found = {(split.named(i), int(split.labels[i])) for split in data.splits.values() for i in range(len(split))}
    assert found == {(str(tmp_path / name), int(what == "dog")) for name, what in rows}
    split = data.splits["train"]
    assert all(split.picture(i, 3).size == (4, 3) for i in range(len(split)))


def test_splits_of_a_column(tmp_path: Path) -> None:
    photos(tmp_path, ["1.png", "2.png", "3.png", "4.png"], mode="L")
    path = write(tmp_path / "l.csv", "path,label,split\n4.png,b,VAL\n1.png,b,train\n2.png,a,train\n\n3.png,b,test\n")
    data = open_data(path)
    assert {name: (split.named(0), split.labels.tolist()) for name, split in data.splits.items()} == {
        "train": (str(tmp_path / "2.png"), [0, 1]),
        "validation": (str(tmp_path / "4.png"), [1]),
        "test": (str(tmp_path / "3.png"), [1]),
    }
    assert data.channels == 1
    assert data.rule == ("train, validation and test as given; validation has no image of a; test has no image of a")
    assert data.warnings == ("validation has no image of a", "test has no image of a")


def test_string_order_is_told_where_others_sort_naturally(tmp_path: Path) -> None:
    data = open_data(write(tmp_path / "l.tsv", "".join(f"{i}.png\t{i}\n" for i in range(11))), validation=0)
    assert data.classes[:3] == ("0", "1", "10")
    assert data.warnings[0] == (
        "classes are in string order, '0' first; tools that sort naturally (timm) number 9 of them differently, "
        "so use the stored names"
    )


def test_missing_and_outside_files_are_bad_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    photos(tmp_path, ["outside.png", "set/in.png"])
    names = ["gone.png", "../outside.png", f"{tmp_path}/outside.png", "x/../in.png", f"{tmp_path}/set/in.png"]
    path = write(tmp_path / "set/l.csv", "".join(f"{n},a\n{n}.jpg,b\n" for n in names))
    data = open_data(path, validation=0)
    said = {}
    for split in data.splits.values():
        for i in range(len(split)):
            try:
                split.picture(i, 3)
            except BadImage as error:
                said[split.named(i)] = str(error).removeprefix(split.named(i))
    folder = tmp_path / "set"
    assert said[f"{folder}/gone.png"] == ": no such file or directory"
    assert said[f"{folder}/../outside.png"] == f": lies outside {folder}, the list's folder"
    assert said[f"{tmp_path}/outside.png"] == f": lies outside {folder}, the list's folder"
    assert f"{folder}/in.png" not in said


def test_a_list_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path, ["set/1.png", "set/2.png", "3.png"])
    write(tmp_path / "set/l.csv", "1.png,a\n2.png,b\n../3.png,b\n")
    monkeypatch.chdir(tmp_path / "set")
    split = open_data("l.csv", validation=0).splits["train"]
    good = [split.given(0), split.given(1)]
    assert good == [Path("1.png"), Path("2.png")]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "{} lists no image; give a header with path and label, or two columns without one"),
        ("path,label\n", "{} lists no image; give a header with path and label, or two columns without one"),
        (
            "\na.png\n",
            "line 2 of {} is 'a.png'; give a header with path and label, or two columns without one, "
            "split by , ; or tab",
        ),
        ("path,label,class\n", "line 1 of {} names path, label or split twice; give one column of each"),
        ("path,label\na.png,x\nb.png\n", "line 3 of {} has 1 columns, expected 2"),
        ("a.png,x\nb.png,y,z\n", "line 2 of {} has 3 columns, expected 2"),
        ("a.png,x\n\n ,y\n", "line 3 of {} has no path; give a path and a label"),
        ("a.png,x\nb.png, \n", "line 2 of {} has no label; give a path and a label"),
        (
            'a.png,"x\ny"\n',
            "line 2 of {} has the label 'x\\ny', which is no plain text; give a path and a label",
        ),
        (
            "path,label,split\na.png,x,train\nb.png,y,dev\n",
            "line 3 of {} has the split 'dev'; give train, validation or test",
        ),
        ("path,label,split\na.png,x,\n", "line 2 of {} has the split ''; give train, validation or test"),
        ("a.png,x\nb.png,y\na.png,y\n", "line 3 of {} gives a.png as 'y', line 1 as 'x'"),
        (
            "path,label,split\na.png,x,train\nb.png,y,train\na.png,x,test\n",
            "line 4 of {} gives a.png as 'test', line 2 as 'train'",
        ),
        ('a.png,x\n"b.png,y\n', "line 2 of {} is no CSV: unexpected end of data"),
        ("a.png,x\nb.png,x\n", "{} has one class, 'x'; a classifier needs two or more"),
        (
            "path,label,split\na.png,x,train\nb.png,y,train\nc.png,z,test\n",
            "class 'z' of test in {} is missing in train; labels are matched by name, so rename or remove it",
        ),
        (
            "path,label,split\na.png,shirt,train\nb.png,y,train\nc.png,Shirt,val\n",
            "validation in {} has 'Shirt' where train has 'shirt'; labels are matched by name, so give each class "
            "one name",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "list.csv", text)
    with pytest.raises(BadData) as caught:
        open_data(path)
    assert str(caught.value) == said.format(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"a.png,x\nb.png,caf\xe9\n")
    with pytest.raises(BadData) as caught:
        open_data(tmp_path / "l.csv")
    assert str(caught.value) == f"line 2 of {tmp_path / 'l.csv'} is not UTF-8 text; save it as UTF-8"


def test_a_list_as_large_as_no_list_is(tmp_path: Path) -> None:
    with (tmp_path / "l.csv").open("wb") as file:
        file.truncate(listing.BYTES + 1)
    with pytest.raises(BadData) as caught:
        open_data(tmp_path / "l.csv")
    assert str(caught.value) == f"{tmp_path / 'l.csv'} has 2,000,000,001 bytes, more than the 2,000,000,000 allowed"


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        assert len(listing.read(path).classes) > 1
    except BadData as error:
        assert str(error).isprintable()
