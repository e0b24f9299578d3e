"""A model is pushed to a hub on loopback and loaded from it; nothing else ever leaves."""

import hashlib
import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml

from fmbseg import Segmenter
from fmbseg.cli import main
from fmbseg.hub.files import FILES, MAX_BYTES
from fmbseg.hub.names import HubError, HubName
from tests.support.hub_repository import Repository
from tests.support.hub_server import HubServer
from tests.support.trained_folder import CLASSES

REPO = "owner/small-world"


def push(trained: Path, *options: str, repo: str = REPO) -> int:
    return main(["push-to-hub", str(trained), repo, *options])


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def test_what_is_pushed_loads_by_its_name_and_answers_the_same(hub: HubServer, trained: Path):
    assert push(trained) == 0
    assert sorted(hub.files(REPO)) == sorted([".gitattributes", *FILES])
    ours, theirs = Segmenter.load(trained, "cpu"), Segmenter.load(f"hf-hub:{REPO}", "cpu")
    assert theirs.trained_classes == CLASSES
    assert theirs.temperature == ours.temperature
    one, other = (each.predict(picture(), CLASSES, scores=True) for each in (ours, theirs))
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.confidence, other.confidence)


def test_the_head_goes_by_lfs_with_the_trained_bytes_and_no_backbone_does(
    hub: HubServer, trained: Path
):
    push(trained)
    head = (trained / "alignment.safetensors").read_bytes()
    assert hub.files(REPO)["model.safetensors"] == head
    assert list(hub.large.values()) == [head]
    said = json.loads(hub.files(REPO)["config.json"])
    assert said["models"]["profile"] == "miniature"
    assert said["models"]["sam"] is None
    assert said["head"]["vision_dim"] == 160


def test_the_head_goes_to_xet_storage_where_the_client_has_it(
    hub: HubServer, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    assert push(trained) == 2
    assert "wants HF_HUB_DISABLE_XET=1" in capsys.readouterr().err
    hub.xet = True
    assert push(trained) == 0
    head = (trained / "alignment.safetensors").read_bytes()
    assert hashlib.sha256(head).hexdigest().encode() in hub.files(REPO)["model.safetensors"]
    assert hub.large == {}
    assert sum(map(len, hub.blocks.values())) > len(head) / 4
    assert hub.shards


def test_a_revision_is_loaded_as_it_was(hub: HubServer, trained: Path):
    push(trained)
    first = hub.repositories[REPO].refs["main"]
    changed = dict(hub.files(REPO))
    said = json.loads(changed["config.json"])
    changed["config.json"] = json.dumps({**said, "temperature": 0.7}).encode()
    hub.repositories[REPO].commit(changed)
    assert Segmenter.load(f"hf-hub:{REPO}", "cpu").temperature == 0.7
    assert Segmenter.load(f"hf-hub:{REPO}@{first}", "cpu").temperature == 0.2


def test_what_was_fetched_serves_without_a_network(
    hub: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    push(trained)
    Segmenter.load(f"hf-hub:{REPO}", "cpu")
    before = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Segmenter.load(f"hf-hub:{REPO}", "cpu").trained_classes == CLASSES
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set in this shell"):
        Segmenter.load("hf-hub:owner/another", "cpu")
    assert len(hub.asked) == before
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub.down = True
    assert Segmenter.load(f"hf-hub:{REPO}", "cpu").trained_classes == CLASSES


def test_nothing_is_sent_where_a_flag_forbids_it_and_the_flag_is_named(
    hub: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert push(trained) == 2
    assert "env -u HF_HUB_OFFLINE fmbseg push-to-hub" in capsys.readouterr().err
    assert hub.asked == []


def test_a_dry_run_sends_nothing_and_writes_what_loads(
    hub: HubServer, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert push(trained, "--dry-run", str(tmp_path / "look")) == 0
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == sorted(FILES)
    assert Segmenter.load(tmp_path / "look", "cpu").trained_classes == CLASSES
    assert hub.asked == []


def test_private_makes_a_private_repository_and_never_writes_to_a_public_one(
    hub: HubServer, trained: Path, capsys
):
    assert push(trained, "--private") == 0
    assert hub.repositories[REPO].private
    public = Repository(private=False)
    public.commit({".gitattributes": b""})
    hub.repositories["owner/public"] = public
    assert push(trained, "--private", repo="owner/public") == 2
    assert "everybody sees" in capsys.readouterr().err
    assert list(hub.files("owner/public")) == [".gitattributes"]


def test_no_token_and_a_wrong_one_are_told(
    hub: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert push(trained) == 2
    assert "did not take it" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert push(trained) == 2
    assert "set HF_TOKEN" in capsys.readouterr().err
    assert hub.repositories == {}


def test_the_endpoint_of_the_command_line_comes_first(
    hub: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert push(trained, "--endpoint", hub.url) == 0
    assert REPO in hub.repositories


def test_a_path_of_this_machine_is_not_published_and_a_name_for_it_is(
    hub: HubServer, trained: Path, tmp_path: Path, capsys
):
    folder = tmp_path / "own"
    folder.mkdir()
    for file in trained.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    said = json.loads((folder / "segmenter.json").read_text())
    said["models"] |= {"profile": "base", "clip": {"pretrained": "/home/me/ViT-B-16.pt"},
                       "sam": {"checkpoint": "/home/me/sam.pth"}}  # fmt: skip
    (folder / "segmenter.json").write_text(json.dumps(said))
    assert push(folder) == 2
    assert "--name clip.pretrained=NAME" in capsys.readouterr().err
    assert hub.asked == []
    assert push(folder, "--name", "clip.pretrained=openai") == 0
    sent = hub.files(REPO)
    assert b"/home/me" not in sent["config.json"] + sent["README.md"]
    assert b"MIT" in sent["README.md"]


def test_the_card_begins_with_what_hubs_read_and_shows_names_as_they_are(
    hub: HubServer, trained: Path
):
    push(trained, "--licence", "apache-2.0")
    text = hub.files(REPO)["README.md"].decode()
    said = yaml.safe_load(text.split("---\n")[1])
    assert said["license"] == "apache-2.0"
    assert said["pipeline_tag"] == "image-segmentation"
    assert f'Segmenter.load("hf-hub:{REPO}")' in text
    for part in ("What it is not", "Licences", "sky; grass; water", "no evaluation of these"):
        assert part in text


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("config.json", b"{", "not valid JSON"),
        ("config.json", b'{"model_type": "other"}', "model_type"),
        ("model.safetensors", b"\x80\x04pickle", "model.safetensors"),
        ("model.safetensors", None, "found no model.safetensors"),
    ],
)
def test_a_hostile_file_is_refused_in_words(
    hub: HubServer, trained: Path, file: str, content: bytes | None, problem: str
):
    push(trained)
    files = dict(hub.files(REPO))
    if content is None:
        del files[file]
    else:
        files[file] = content
    hostile = Repository(private=False)
    hostile.commit(files)
    hub.repositories["owner/hostile"] = hostile
    with pytest.raises(ValueError, match=problem):
        Segmenter.load("hf-hub:owner/hostile", "cpu")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("head", {"vision_dim": 65536, "text_dim": 65536, "heads": 1, "mlp_ratio": 64.0},
         "do not belong together"),
        ("head", {"vision_dim": 160, "text_dim": 128, "heads": 0, "mlp_ratio": 4.0}, "head.heads"),
        ("trained_classes", ["x" * 300], "trained_classes"),
        ("temperature", -1.0, "temperature"),
        ("extra", 1, "extra"),
    ],
)  # fmt: skip
def test_a_config_that_claims_too_much_is_refused_before_memory_is_taken(
    hub: HubServer, trained: Path, key: str, value: object, problem: str
):
    push(trained)
    files = dict(hub.files(REPO))
    said = json.loads(files["config.json"])
    files["config.json"] = json.dumps({**said, key: value}).encode()
    hub.repositories[REPO].commit(files)
    with pytest.raises(ValueError, match=problem):
        Segmenter.load(f"hf-hub:{REPO}", "cpu")


def test_a_published_model_names_no_path_on_this_machine(hub: HubServer, trained: Path):
    push(trained)
    files = dict(hub.files(REPO))
    said = json.loads(files["config.json"])
    said["models"]["vision"] = {"name": "local-dir:/etc"}
    files["config.json"] = json.dumps(said).encode()
    hub.repositories[REPO].commit(files)
    with pytest.raises(ValueError, match="outside the trained folder"):
        Segmenter.load(f"hf-hub:{REPO}", "cpu")


@pytest.mark.parametrize("file", sorted(MAX_BYTES))
def test_a_file_that_is_too_large_is_not_fetched(hub: HubServer, trained: Path, file: str):
    push(trained)
    hub.claimed[file] = MAX_BYTES[file] + 1
    hub.asked.clear()
    with pytest.raises(HubError, match="wanted at most"):
        Segmenter.load(f"hf-hub:{REPO}", "cpu")
    assert not any("resolve" in path for _, path in hub.asked)


def test_what_is_not_there_is_told(hub: HubServer, trained: Path):
    with pytest.raises(HubError, match="not fetched"):
        Segmenter.load("hf-hub:owner/nothing", "cpu")
    push(trained)
    with pytest.raises(HubError, match="not fetched"):
        Segmenter.load(f"hf-hub:{REPO}@v9", "cpu")


@pytest.mark.parametrize(
    "name", ["hf-hub:", "hf-hub:one", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:a/..", "hf-hub:a/b@",
             "hf-hub:a/b@../../x", "hf-hub:a/b@-x", "hf-hub:a--b/c", "hf-hub:a/b c"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(HubError, match="wanted"):
        HubName.parse(name)


def test_names_are_read_and_written_alike():
    for name in ("hf-hub:owner/name", "hf-hub:o.w-n_er/na.me@v1.0", "hf-hub:a/b@feature/x"):
        assert str(HubName.parse(name)) == name
