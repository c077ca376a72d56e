"""The cluster that stages share."""

import tempfile

import pytest

from mtkd.cluster import _short_tmp


def test_a_folder_too_long_for_sockets_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/of-a-user-with-a-long-name")
    assert _short_tmp() == "/tmp"
