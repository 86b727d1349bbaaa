"""A conversion replaces a dataset and nothing else, and never what it reads."""

import os

import numpy as np
import pytest
from example_episodes import assert_same, make_episodes

from hotloop.train.data import read_episodes, write_episodes
from hotloop.train.data.convert import Target, convert_dataset


@pytest.fixture
def source(tmp_path):
    (tmp_path / "from").mkdir()
    return write_episodes(tmp_path / "from" / "demos.hdf5", make_episodes(final=False))


def refuses(source, path, message, layout="lerobot", error=FileExistsError):
    with pytest.raises(error, match=message):
        convert_dataset(source, Target(path, layout, overwrite=True))


def test_a_folder_that_is_no_dataset_is_kept(tmp_path, source):
    work = tmp_path / "thesis"
    (work / "chapters").mkdir(parents=True)
    (work / "chapters" / "1.tex").write_text("years of work")
    refuses(source, work, r"thesis: is not a dataset; nothing was changed")
    assert (work / "chapters" / "1.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "thesis"]


def test_a_dataset_that_somebody_keeps_notes_in_is_kept(tmp_path, source):
    path = write_episodes(tmp_path / "lerobot", make_episodes(), "lerobot")
    (path / "notes.txt").write_text("what went wrong")
    refuses(source, path, r"holds 'notes\.txt', which is no part of a lerobot dataset")
    assert (path / "notes.txt").exists()


def test_a_file_with_the_suffix_of_datasets_may_be_something_else(tmp_path, source):
    path = tmp_path / "weights.hdf5"
    path.write_bytes(b"precious")
    refuses(source, path, "is not a dataset that can be read", layout="d4rl")
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(("name", "layout"), [("x.hdf5", "d4rl"), ("x", "lerobot")])
def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path, source, name, layout):
    path = tmp_path / name
    if layout == "d4rl":
        path.mkdir()
        (path / "keep").touch()
    else:
        path.write_text("keep")
    refuses(source, path, "nothing was changed", layout=layout)
    assert path.exists()


def test_a_link_is_not_followed(tmp_path, source):
    real = write_episodes(tmp_path / "real", make_episodes(), "lerobot")
    link = tmp_path / "link"
    link.symlink_to(real)
    refuses(source, link, "is a link; give the path that it leads to")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "absent")
    refuses(source, dangling, "is a link")
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "from", "link", "real"]


def test_the_source_is_neither_replaced_nor_written_into(tmp_path, source):
    refuses(source, source.parent, "holds the source", error=ValueError)
    refuses(source, source, "source and target are the same", layout="d4rl", error=ValueError)
    folder = write_episodes(tmp_path / "lerobot", make_episodes(), "lerobot")
    refuses(folder, folder / "copy", "lies in the source", error=ValueError)
    other = tmp_path / "link.hdf5"
    os.link(source, other)
    refuses(source, other, "source and target are the same", layout="d4rl", error=ValueError)
    assert_same(read_episodes(source, everything=True), make_episodes(final=False))


def test_a_dataset_is_replaced_by_one_of_another_kind_of_data(tmp_path, source):
    path = write_episodes(tmp_path / "lerobot", make_episodes(images=True), "lerobot")
    convert_dataset(source, Target(path, "lerobot", overwrite=True))
    assert set(read_episodes(path).observations) == {"observation.state", "observation.goal"}
    empty = tmp_path / "empty"
    empty.mkdir()
    convert_dataset(source, Target(empty, "lerobot", overwrite=True))
    assert read_episodes(empty).num_episodes == 3


def test_a_failed_conversion_leaves_no_folder(tmp_path):
    images = write_episodes(tmp_path / "images.zarr", make_episodes(images=True))
    with pytest.raises(ValueError, match="holds no images"):
        convert_dataset(images, Target(tmp_path / "new" / "deep" / "a.hdf5"))
    assert not (tmp_path / "new").exists()


def test_a_dataset_lost_between_two_renames_comes_back(tmp_path):
    """SIGKILL there leaves the old folder under another name, and the new one complete."""
    path = write_episodes(tmp_path / "lerobot", make_episodes(), "lerobot")
    dead = 2**22 + 1  # no process has this number
    path.rename(tmp_path / f".replaced-{dead}-lerobot")
    np.testing.assert_array_equal(read_episodes(path).actions, make_episodes().actions)
    assert [child.name for child in tmp_path.iterdir()] == ["lerobot"]
