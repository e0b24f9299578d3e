"""`fmbseg review`: what it wants, where it listens, what it says at its end."""

from dataclasses import replace

from fmbseg.cli import main
from fmbseg.commands import review as command
from fmbseg.corrections.store import read_correction, save_correction
from fmbseg.review import serve
from fmbseg.review.app import Review
from fmbseg.review.images import shown
from fmbseg.review.saving import Sent, save
from tests.support.review_workspace import CLASSES, MASKS, review_workspace


def test_without_a_run_or_without_masks_it_says_what_makes_them(tmp_path, capsys):
    assert main(["review", "--workspace", str(tmp_path)]) == 2
    assert "found no params.yaml" in capsys.readouterr().err
    review_workspace(tmp_path, {})
    assert main(["review", "--workspace", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "found no masks to review" in said
    assert "label IMAGES --classes" in said


def test_its_last_lines_say_what_was_done_and_what_comes_next(tmp_path, capsys, monkeypatch):
    workspace = review_workspace(tmp_path, dict.fromkeys(["a.png", "b.png", "c.png"], MASKS))

    def served(opened, by, port, ready):
        ready("http://127.0.0.1:1/#t")
        for image, accepted in (("a.png", True), ("b.png", False)):
            sent = Sent(image=image, revision=0, accepted=accepted, regions=[], what="", seconds=4)
            save(opened, sent, by, CLASSES)
        other = read_correction(workspace.corrections, "b.png")
        assert other is not None
        save_correction(workspace.corrections, replace(other, image="c.png", revision=0))
        return Review(opened, by, "t", {"a.png": 4.0, "b.png": 5.0}, {"a.png"})

    monkeypatch.setattr(command, "serve", served)
    assert main(["review", "--workspace", str(tmp_path), "--by", "anna\n", "--no-open"]) == 0
    said = capsys.readouterr().out
    assert "by anna\\n: http://127.0.0.1:1/#t" in said
    assert "2 images reviewed, 1 of them accepted, 4 s an image" in said
    assert "in all: 1 accepted, 1 drafts" in said
    assert "1 corrected images are other pictures by now, review them again: c.png\n" in said
    assert "next: run again" in said
    assert shown(workspace, "a.png").correction.history[0].by == "anna\\n"


def test_port_and_token_of_the_last_time_are_kept_for_this_user_alone(tmp_path):
    serve._remember(tmp_path, 8000, "secret")
    assert serve._last(tmp_path) == (8000, "secret")
    assert (tmp_path / ".scratch/review.json").stat().st_mode & 0o077 == 0
