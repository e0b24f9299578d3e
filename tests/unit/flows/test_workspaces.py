"""`make run`: whose workspace it works in, and which params.yaml rules there."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from fmbseg.params import ParamsError, load_params
from fmbseg.steps import download
from fmbseg.steps.choose_workspace import Asked, WorkspaceError, open_workspace
from fmbseg.steps.download import DataError
from fmbseg.steps.workspace import Workspace
from tests.conftest import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the repository's params.yaml and a class file, as the current one."""
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photographs(folder: Path, shade: int = 0, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (16, 12), (shade, number, 0)).save(folder / f"{number}.png")
    return folder


def opened(images: Path, **more: object) -> tuple[Path, list[str]]:
    """The workspace for a folder, and what was said."""
    said: list[str] = []
    asked = Asked(images=images, classes=Path("classes.txt"), **more)
    return open_workspace(asked, said.append), said


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_second_folder_of_the_same_name_gets_a_workspace_of_its_own(checkout: Path):
    first, second = photographs(checkout / "a/photos"), photographs(checkout / "b/photos", 9)
    assert opened(first)[0] == Path("runs/photos")
    download.run(Workspace.open("runs/photos"), "folder")
    before = Path("runs/photos/params.yaml").read_bytes()
    place, said = opened(second)
    assert place == Path("runs/photos-b")
    assert said[0] == f"==> runs/photos belongs to {first}; {second} gets runs/photos-b"
    assert Path("runs/photos/params.yaml").read_bytes() == before
    assert opened(second)[0] == Path("runs/photos-b"), "the same place the next time"
    assert opened(Path("a/photos"))[0] == Path("runs/photos"), "however its path is written"
    third = photographs(checkout / "x/b/photos", 5)
    assert opened(third)[0].name.startswith("photos-")
    assert opened(third)[0] not in (Path("runs/photos"), Path("runs/photos-b"))


def test_a_workspace_named_on_the_command_line_that_is_anothers_is_refused_with_words(
    checkout: Path,
):
    first, second = photographs(checkout / "a/photos"), photographs(checkout / "b/photos", 9)
    opened(first, workspace=Path("out"))
    before = Path("out/params.yaml").read_bytes()
    with pytest.raises(WorkspaceError, match=rf"out belongs to {first}, not {second}.*WORKSPACE"):
        opened(second, workspace=Path("out"))
    assert Path("out/params.yaml").read_bytes() == before
    assert opened(first, workspace=Path("out"))[0] == Path("out")


def test_the_miniatures_outputs_are_not_taken_over_by_photographs(checkout: Path):
    photos = photographs(checkout / "photos")
    (checkout / "data/download/miniature").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"belongs to .*data/download/miniature"):
        opened(photos, workspace=Path())
    assert load_params("params.yaml").data.images == "miniature"


def test_a_folder_below_runs_that_is_no_workspace_is_left_alone(checkout: Path):
    (checkout / "runs/table/cell").mkdir(parents=True)
    place, said = opened(photographs(checkout / "table"))
    assert place != Path("runs/table")
    assert "runs/table holds something else" in said[0]
    assert not (checkout / "runs/table/params.yaml").exists()


def test_a_moved_folder_with_the_same_images_goes_on_and_says_so(checkout: Path):
    first = photographs(checkout / "a/photos")
    opened(first)
    download.run(Workspace.open("runs/photos"), "folder")
    second = checkout / "b/photos"
    shutil.copytree(first, second)
    assert opened(second)[0] == Path("runs/photos-b"), "a copy is another folder"
    shutil.rmtree("runs/photos-b")
    shutil.rmtree(first)
    place, said = opened(second)
    assert place == Path("runs/photos")
    assert said[0] == f"==> {first} is now {second}, with the same images: runs/photos goes on"
    assert Path(load_params("runs/photos/params.yaml").data.images) == second
    assert not download.run(Workspace.open("runs/photos"), "folder"), "nothing to do again"


def test_where_the_former_folder_is_gone_and_the_images_differ_it_says_how_to_go_on(checkout: Path):
    first = photographs(checkout / "a/photos")
    opened(first)
    download.run(Workspace.open("runs/photos"), "folder")
    shutil.rmtree(first)
    second = photographs(checkout / "b/photos", 9)
    place, said = opened(second)
    assert place == Path("runs/photos-b")
    assert "which is gone" in said[0]
    assert "set data.images in runs/photos/params.yaml" in said[0]
    edit(Path("runs/photos/params.yaml"), str(first), str(second))
    shutil.rmtree("runs/photos-b")
    assert opened(second)[0] == Path("runs/photos"), "what the message says works"


def test_nothing_is_made_or_written_when_the_images_are_not_there(checkout: Path):
    with pytest.raises(DataError, match="no folder nowhere"):
        opened(Path("nowhere"))
    assert not (checkout / "runs").exists()
    photos = photographs(checkout / "photos")
    opened(photos)
    before = Path("runs/photos/params.yaml").read_bytes()
    with pytest.raises(DataError, match=r"data\.labels: no folder missing"):
        opened(photos, labels=Path("missing"))
    with pytest.raises(ParamsError, match=r"models\.profile: found 'papre'"):
        opened(photos, profile="papre")
    assert Path("runs/photos/params.yaml").read_bytes() == before


def test_the_params_file_that_rules_is_named_always(checkout: Path):
    said: list[str] = []
    open_workspace(Asked(), said.append)
    assert said == ["==> params.yaml rules this run (models.profile: miniature)"]
    _, said = opened(photographs(checkout / "photos"))
    assert said == ["==> runs/photos/params.yaml rules this run (models.profile: miniature)"]


def test_an_edit_of_the_checkouts_params_that_a_workspace_ignores_is_said_with_the_way_out(
    checkout: Path,
):
    photos = photographs(checkout / "photos")
    opened(photos)
    edit(checkout / "params.yaml", "profile: miniature", "profile: base     ")
    edit(checkout / "params.yaml", "epochs: auto", "epochs: 50")
    edit(checkout / "params.yaml", "train_images: 600", "train_images: 60")
    _, said = opened(photos)
    assert "models.profile base (here miniature); train.epochs 50 (here 30)." in said[1]
    assert "RESET_PARAMS=1" in said[1]
    assert "train_images" not in said[1]
    _, said = opened(photos, reset_params=True)
    assert said == ["==> runs/photos/params.yaml rules this run (models.profile: base)"]
    found = load_params("runs/photos/params.yaml")
    assert (found.train.epochs, found.data.images) == (50, str(photos))


def test_the_profile_on_the_command_line_is_written_where_it_rules(checkout: Path):
    photos = photographs(checkout / "photos")
    _, said = opened(photos, profile="base")
    assert said[0] == "==> runs/photos/params.yaml rules this run (models.profile: base)"
    assert "models.profile miniature (here base)" in said[1]
    assert load_params("params.yaml").models.profile == "miniature"
    opened(photos)
    assert load_params("runs/photos/params.yaml").models.profile == "base", "and stays"
    with pytest.raises(ParamsError, match="the current folder's own"):
        open_workspace(Asked(reset_params=True))


def test_classes_without_images_are_not_ignored(checkout: Path):
    with pytest.raises(ParamsError, match="need --images"):
        open_workspace(Asked(classes=Path("classes.txt")))
