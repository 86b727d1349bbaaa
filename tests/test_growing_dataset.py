"""A dataset that grows: every episode that was added is there, whole, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop.train.data.decode import decode
from hotloop.train.data.formats.lerobot.grow import GrowingDataset, Header
from hotloop.train.data.formats.registry import open_dataset
from hotloop.train.data.inspect import inspect_dataset
from hotloop.train.recording.episode import EpisodeBuilder, Frame
from hotloop.train.recording.pictures import declare_pictures
from hotloop.train.recording.recorder import Recorder
