"""Large datasets are mapped from a cache that is never stale, partial or of another request."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from example_episodes import assert_same, make_episodes

from hotloop.train.data import ReadOptions, read_episodes, write_episodes
from hotloop.train.data.cache import EpisodeCache
from hotloop.train.data.decode import Decoding


@pytest.fixture
def cache_root(tmp_path, monkeypatch):
    root = tmp_path / "cache"
    monkeypatch.setenv("HOTLOOP_CACHE", str(root))
    return root / "datasets"


@pytest.fixture
def path(tmp_path):
    return write_episodes(tmp_path / "a.hdf5", make_episodes())


@pytest.fixture
def decodings(monkeypatch):
    """Grows by one whenever a file is decoded."""
    run, calls = Decoding.run, []

    def counted(self, *arguments):
        calls.append(self.file.path)
        return run(self, *arguments)

    monkeypatch.setattr(Decoding, "run", counted)
    return calls


def read(path, **options):
    return read_episodes(path, everything=True, max_memory=0, **options)


def test_small_data_is_not_cached(cache_root, path):
    read_episodes(path)
    assert not cache_root.exists()


def test_large_data_is_mapped_and_decoded_only_once(cache_root, path, decodings):
    for _ in range(2):
        episodes = read(path)
        assert_same(episodes, make_episodes())
        assert isinstance(episodes.actions, np.memmap)
        assert isinstance(episodes.observations["observation.state"], np.memmap)
    assert len(decodings) == 1


def test_a_changed_source_replaces_its_cache(cache_root, path, decodings):
    read(path)
    other = make_episodes(final=False)
    write_episodes(path, other, overwrite=True)
    assert read(path).final_observations is None
    assert len(decodings) == 2
    assert len(list(cache_root.glob("*/index.json"))) == 1


def test_each_request_has_a_cache_of_its_own(cache_root, path):
    keys = {"observation.x": "observations[:1]", "action": "actions"}
    assert set(read(path).observations) == {"observation.state", "observation.goal"}
    assert set(read(path, keys=keys).observations) == {"observation.x"}
    assert set(read(path).observations) == {"observation.state", "observation.goal"}
    shifted = read_episodes(path, keys, ReadOptions(max_episode_steps=2), max_memory=0)
    assert shifted.num_episodes > 3


def test_mapped_arrays_can_be_written_to_without_changing_the_cache(cache_root, path):
    read(path).actions[:] = 7
    assert_same(read(path), make_episodes())


@pytest.mark.parametrize("damage", ["truncate", "empty", "delete", "version", "json"])
def test_a_damaged_cache_is_made_anew(cache_root, path, decodings, damage):
    read(path)
    (folder,) = (child for child in cache_root.iterdir() if child.is_dir())
    array, index = folder / "000.npy", folder / "index.json"
    if damage == "truncate":
        array.write_bytes(array.read_bytes()[:-8])
    elif damage == "empty":
        array.write_bytes(b"")
    elif damage == "delete":
        array.unlink()
    elif damage == "version":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 0}))
    else:
        index.write_text(index.read_text()[:-10])
    assert_same(read(path), make_episodes())
    assert len(decodings) == 2


def test_a_failed_decoding_leaves_no_cache(cache_root, path):
    with pytest.raises(ValueError, match="out of range"):
        read(path, keys={"observation.x": "observations[:99]", "action": "actions"})

    def fail(allocate):
        allocate("action", (3, 2), np.dtype(np.float32))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EpisodeCache(path, {}).build(fail)
    assert [child for child in cache_root.iterdir() if child.is_dir()] == []


def test_the_remains_of_a_killed_process_are_removed(cache_root, path):
    read(path)
    (folder,) = (child for child in cache_root.iterdir() if child.is_dir())
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    remains = cache_root / f".partial-{int(process.stdout)}-{folder.name}"
    remains.mkdir()
    (folder / "index.json").unlink()
    read(path)
    assert not remains.exists()


def test_two_at_a_time_decode_once(cache_root, path, decodings):
    threads = [threading.Thread(target=read, args=(path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decodings) == 1


MEASURED = """
import sys, threading, time
import torch
from hotloop.train.data import read_episodes
from hotloop.train.data.windows import Windows

def anonymous():
    text = open("/proc/self/status").read()
    return int(text.split("RssAnon:")[1].split()[0]) / 1024

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

read_episodes(sys.argv[1])
peak = start = anonymous()
threading.Thread(target=watch, daemon=True).start()
episodes = read_episodes(sys.argv[2], max_memory=2**20)
windows = Windows(episodes, tuple(episodes.observations), 2, 16)
for _ in range(20):
    windows.gather(torch.randint(len(windows), (256,)))
print(peak - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_file_above_the_memory_limit_takes_a_fraction_of_its_size(cache_root, path, tmp_path):
    """128 MiB of observations: reading, checking and batching them allocates less than half."""
    large = tmp_path / "large.hdf5"
    num_steps = 2**20
    with h5py.File(large, "w") as file:
        for name, size in {"observations": 32, "actions": 2}.items():
            file.create_dataset(name, data=np.ones((num_steps, size), np.float32))
        file["rewards"] = np.zeros(num_steps, np.float32)
        file["terminals"] = np.zeros(num_steps, bool)
        file["timeouts"] = np.arange(num_steps) % 1000 == 999
    words = [sys.executable, "-c", MEASURED, str(path), str(large)]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < 64


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve")
def test_a_full_disk_is_told_before_anything_is_decoded(cache_root, path, decodings, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"a\.hdf5") as error:
        patch.setattr(os, "posix_fallocate", refuse)
        read(path)
    assert "set HOTLOOP_CACHE to a folder on a larger disk" in str(error.value)
    assert [child for child in cache_root.iterdir() if child.is_dir()] == []
    assert_same(read(path), make_episodes())
