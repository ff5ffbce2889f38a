"""The public names, and that they mean the functions whatever was imported before."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import convatlas


@pytest.mark.parametrize("name", convatlas.__all__)
def test_a_public_name_is_a_function_even_after_its_room_was_imported(name: str) -> None:
    import_module(f"convatlas.{convatlas._ROOMS[name]}")
    value = getattr(convatlas, name)
    assert callable(value) and not isinstance(value, ModuleType)
    assert value.__name__ == name


def test_names_are_listed_and_sorted() -> None:
    assert convatlas.__all__ == sorted(convatlas.__all__) == sorted(convatlas._ROOMS)
    assert set(convatlas.__all__) <= set(dir(convatlas))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'convatlas' has no attribute 'resnet'"):
        convatlas.resnet  # noqa: B018


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, convatlas; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
