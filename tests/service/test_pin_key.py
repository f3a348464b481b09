"""The key behind all PINs: long enough, and for the node's eyes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.wiring import KeyFileError, read_key


def key_file(folder: Path, content: bytes, mode: int) -> Path:
    path = folder / "pin.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_key_of_its_owner_is_read(tmp_path: Path, mode: int) -> None:
    assert read_key(key_file(tmp_path, b"k" * 32, mode)) == b"k" * 32


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o420, 0o401])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match=rf"pin\.key_file: .* may be read by others \(mode {mode:o}\)"):
        read_key(key_file(tmp_path, b"k" * 32, mode))


@pytest.mark.parametrize("size", [0, 31])
def test_a_short_key_is_refused_and_not_shown(tmp_path: Path, size: int) -> None:
    with pytest.raises(KeyFileError, match=f"has {size} bytes, at least 32 are needed") as caught:
        read_key(key_file(tmp_path, b"Q" * size, 0o400))
    assert "QQ" not in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"pin\.key_file: .*none"):
        read_key(tmp_path / "none")
