"""Where outputs are saved: never out of the folder that was asked for."""

from pathlib import Path

import pytest

from grange._folder import below
from grange.errors import GrangeError


def test_names_stay_below_the_folder(tmp_path: Path) -> None:
    assert below(tmp_path, "0001.png") == tmp_path / "0001.png"
    assert below(tmp_path, "depth/left/0001.exr").parent.is_dir()
    for name in ["", "../evil.png", "a/../../evil.png", "/etc/evil", "a//b", "./a", "a/."]:
        with pytest.raises(GrangeError, match="no place for a file"):
            below(tmp_path, name)


def test_a_symlink_among_the_folders_does_not_lead_out(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "depth").symlink_to(outside)
    for name in ["depth/0001.exr", "depth/left/0001.exr"]:
        with pytest.raises(GrangeError, match="a symlink among its folders leads out of"):
            below(folder, name)
    assert not list(outside.iterdir())
    # Within the folder links are the user's business, and so is what the folder itself is.
    (folder / "z").symlink_to(folder)
    assert below(folder, "z/0001.exr") == folder / "z/0001.exr"
    (tmp_path / "link").symlink_to(folder)
    assert below(tmp_path / "link", "x/0001.exr").parent.is_dir()
