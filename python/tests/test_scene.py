"""A scene on its way to a farm; the farm is a stand-in, whose .blend files are JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from grange._scene import Scene, listing, plain_path, upload
from grange.errors import GrangeError, MissingFiles

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Blob:
    hash: str
    len: int


@dataclass
class Farm:
    """Asks for libraries and folders as the real one does, and knows only what it was told."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    manifest: list[dict[str, Any]] = field(default_factory=list)
    rounds: int = 0

    def upload_all(self, paths: Sequence[Path], on_bytes: OnBytes | None = None) -> list[Blob]:
        contents = [path.read_bytes() for path in paths]
        done, of_all = 0, sum(map(len, contents))
        told: list[Blob] = []
        for path, content in zip(paths, contents, strict=True):
            self.sent.append(path.name)
            told.append(Blob(hashlib.sha256(content).hexdigest(), len(content)))
            self.blobs[told[-1].hash] = content
            done += len(content)
            if on_bytes:
                on_bytes(done, of_all)
        return told

    def post(self, path: str, json: Any = None, *, repeat: bool = False) -> Any:
        assert repeat, "asking again does no harm"
        if path == "/manifests":
            assert all(entry["blob"] in self.blobs for entry in json)
            self.manifest = json
            return {"hash": "of the manifest", "len": 1}
        assert path == "/scenes"
        self.rounds += 1
        return self.read(**json)

    def read(self, path: str, files: dict[str, Any], folders: dict[str, Any]) -> Any:
        libraries: set[str] = set()
        unlisted: set[str] = set()
        found: list[str] = []
        missing: list[dict[str, str]] = []

        def look(name: str, kind: str) -> None:
            folder, base = name.rsplit("/", 1)
            if kind == "library" and name in files:
                if files[name] is None:
                    missing.append({"kind": kind, "problem": f"{name} cannot be read"})
                else:
                    open_blend(name)
            elif folder not in folders:
                unlisted.add(folder)
                if kind == "library":
                    libraries.add(name)
            elif base not in (folders[folder] or {"files": []})["files"]:
                missing.append({"kind": kind, "problem": f"{name} is not there"})
            elif kind == "library":
                libraries.add(name)
            else:
                found.append(name)

        def open_blend(name: str) -> None:
            if name not in found:
                found.append(name)
                content = json.loads(self.blobs[files[name]["blob"]])
                for library in content.get("libraries", []):
                    look(library, "library")
                for image in content.get("images", []):
                    look(image, "image")

        open_blend(path)
        if libraries or unlisted:
            return {"more": {"libraries": sorted(libraries), "folders": sorted(unlisted)}}
        scene = {"blend": path, "files": sorted(found), "missing": missing}
        return {"scene": {**scene, "needs": {"engines": ["cycles"]}, "summary": {"active": "S"}}}


def blend(path: Path, **names: list[Path]) -> Path:
    content = {kind: [str(name) for name in of_kind] for kind, of_kind in names.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    return path


def test_a_scene_goes_with_its_libraries_and_their_textures(tmp_path: Path) -> None:
    skin, wood = image(tmp_path / "mats/tex/skin.png"), image(tmp_path / "wood.png")
    mats = blend(tmp_path / "mats/mats.blend", images=[skin])
    chair = blend(tmp_path / "lib/chair.blend", libraries=[mats])
    shot = blend(tmp_path / "shot.blend", libraries=[chair], images=[wood])
    farm = Farm()
    told: list[tuple[int, int]] = []
    scene = upload(farm, shot, on_bytes=lambda sent, of_all: told.append((sent, of_all)))

    needs, summary = {"engines": ["cycles"]}, {"active": "S"}
    assert scene == Scene("of the manifest", str(shot), needs, [], summary)
    files = sorted(map(str, [shot, chair, mats, skin, wood]))
    assert [entry["path"] for entry in farm.manifest] == files
    assert sorted(farm.sent) == sorted(Path(file).name for file in files), "each once"
    of_all = sum(os.path.getsize(file) for file in files)
    assert told[-1] == (of_all, of_all)
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)
    assert farm.rounds == 4


def test_a_missing_texture_is_a_warning(tmp_path: Path) -> None:
    gone, nowhere = tmp_path / "gone.png", tmp_path / "no/such/folder.png"
    shot = blend(tmp_path / "shot.blend", images=[gone, nowhere])
    scene = upload(Farm(), shot)
    assert scene.warnings == [f"{gone} is not there", f"{nowhere} is not there"]


def test_a_missing_library_is_an_error_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, secret = tmp_path / "gone.blend", blend(tmp_path / "lib/secret.blend")
    shot = blend(tmp_path / "shot.blend", libraries=[gone, secret])
    monkeypatch.setattr(os, "access", lambda name, _mode: name != str(secret))
    with pytest.raises(MissingFiles) as raised:
        upload(Farm(), shot)
    problems = {f"{gone} is not there", f"{secret} cannot be read"}
    assert set(raised.value.files) == problems
    farm = Farm()
    assert set(upload(farm, shot, allow_missing=True).warnings) == problems
    assert farm.sent == ["shot.blend"]


def test_libraries_may_use_each_other(tmp_path: Path) -> None:
    left = blend(tmp_path / "left.blend", libraries=[tmp_path / "right.blend"])
    blend(tmp_path / "right.blend", libraries=[left])
    farm = Farm()
    upload(farm, blend(tmp_path / "shot.blend", libraries=[left]))
    assert sorted(farm.sent) == ["left.blend", "right.blend", "shot.blend"]


def test_a_library_that_comes_and_goes_ends_with_a_sentence(tmp_path: Path) -> None:
    farm = Farm()
    asks = {"libraries": [str(tmp_path / "lib.blend")], "folders": ["/nowhere"]}
    farm.read = lambda **_told: {"more": asks}
    with pytest.raises(GrangeError, match="change while they are being sent"):
        upload(farm, blend(tmp_path / "shot.blend"))
    assert farm.rounds == 2


def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        upload(Farm(), tmp_path / "shot.blend")


def test_a_listing_follows_symlinks_and_knows_only_names_that_can_be_named(tmp_path: Path) -> None:
    image(tmp_path / "folder/b.png")
    image(tmp_path / "folder/a.png")
    (tmp_path / "folder/sub").mkdir()
    (tmp_path / "folder/link.png").symlink_to("a.png")
    (tmp_path / "folder/way").symlink_to("sub")
    (tmp_path / "folder/nowhere").symlink_to("gone")
    (tmp_path / "folder/ring").symlink_to("ring")
    os.mkfifo(tmp_path / "folder/pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/folder/\xff.png")).touch()
    told = {"files": ["a.png", "b.png", "link.png"], "folders": ["sub", "way"]}
    assert listing(str(tmp_path / "folder")) == told
    assert listing(str(tmp_path / "gone")) is None
    assert listing(str(tmp_path / "folder/a.png")) is None


def test_paths_are_absolute_and_plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/")
    assert plain_path(Path("a/../b.blend")) == f"{tmp_path}/b.blend"
    assert plain_path(Path("link/b.blend")) == f"{tmp_path}/link/b.blend"
    assert plain_path(Path("//server/b.blend")) == "/server/b.blend"
    with pytest.raises(GrangeError, match="not UTF-8"):
        plain_path(Path(os.fsdecode(b"\xff.blend")))
    monkeypatch.setattr(os.path, "abspath", lambda _path: "C:\\b.blend")
    with pytest.raises(GrangeError, match="a path of Windows"):
        plain_path(Path("b.blend"))


def test_a_copy_is_sent_in_the_place_of_a_file(tmp_path: Path) -> None:
    farm, shot, wood = Farm(), tmp_path / "shot.blend", image(tmp_path / "wood.png")
    copy = blend(tmp_path / "elsewhere/copy.blend", images=[wood])
    scene = upload(farm, shot, content=copy)
    assert scene.blend == str(shot) and not scene.warnings
    content = {entry["path"]: farm.blobs[entry["blob"]] for entry in farm.manifest}
    assert content == {str(shot): copy.read_bytes(), str(wood): b"wood.png"}


def test_a_texture_that_is_missing_stops_whoever_wants_all(tmp_path: Path) -> None:
    shot = blend(tmp_path / "shot.blend", images=[tmp_path / "wood.png"])
    with pytest.raises(MissingFiles, match=r"wood\.png is not there"):
        upload(Farm(), shot, require_all=True)
