"""Every format that can be written keeps what it says it keeps."""

import pytest

from hotloop.train.data.conformance import check_format
from hotloop.train.data.formats.registry import FORMATS
from hotloop.train.data.write import writable_formats

FILES = {"d4rl": "a.hdf5", "robomimic": "a.h5", "zarr": "a.zarr", "lerobot": "a"}
FILES |= {"minari": "reach/scripted-v0"}


def test_all_formats_that_can_be_written_are_proven() -> None:
    assert set(writable_formats()) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_format_keeps_what_it_says(name, tmp_path):
    check_format(FORMATS.get(name), tmp_path / FILES[name])


def test_a_zip_of_zarr_does_too(tmp_path):
    check_format(FORMATS.get("zarr"), tmp_path / "a.zarr.zip")
