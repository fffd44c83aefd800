"""One thread a test process (two run side by side), and no data but the embedded ones."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("TRIPTYCH_DATA", None)

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _subnormals():
    """As Python starts: a command that an earlier test ran here flushes them."""
    torch.set_flush_denormal(False)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
