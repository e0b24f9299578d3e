"""`fetch`: which addresses are asked, which redirects are followed, and what messages keep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fmbseg.fetch import DownloadError
from tests.support.fetched_files import CONTENT, CUT, get, names
from tests.support.http_server import FileServer, file_server


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def test_addresses_are_tried_in_order_until_one_gives_the_file(server: FileServer, tmp_path: Path):
    absent, barred = server.url("/absent"), server.serve("/barred", statuses=[403] * 3)
    page = server.serve("/page", b"<p>log in", content_type="text/html; charset=utf-8")
    good = server.serve("/good", CONTENT)
    get(tmp_path / "a.zip", absent, barred, page, good)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    with pytest.raises(DownloadError) as caught:
        get(tmp_path / "b.zip", absent, barred, page)
    words = str(caught.value)
    by_hand = f"put it at {tmp_path / 'b.zip'}"
    for part in (f"{absent} has no such file", f"{barred} refuses access",
                 f"{page} answered with a web page", by_hand):  # fmt: skip
        assert part in words
    assert names(tmp_path) == {"a.zip", "a.zip.json"}


def test_redirects_are_followed_a_few_times(server: FileServer, tmp_path: Path):
    server.serve("/a", CONTENT)
    url = server.serve("/0", location="/a")
    get(tmp_path / "a", url)
    for index in range(1, 9):
        url = server.serve(f"/{index}", location=f"/{index - 1}")
    with pytest.raises(DownloadError, match="redirects more than 5 times"):
        get(tmp_path / "b", url)
    elsewhere = server.serve("/ftp", location="ftp://127.0.0.1/a")
    with pytest.raises(DownloadError, match="no http or https address"):
        get(tmp_path / "b", elsewhere)


def test_a_redirect_from_https_to_http_is_refused():
    import requests

    from fmbseg.fetch.transfer import AddressError, Session

    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a"
    for location in ("http://example.org/a", "ftp://example.org/a"):
        answer.headers["Location"] = location
        with pytest.raises(AddressError, match=r"from https to (http|ftp), which is refused"):
            Session().get_redirect_target(answer)
    answer.headers["Location"] = "/b"
    assert Session().get_redirect_target(answer) == "/b"
    answer.url, answer.headers["Location"] = "http://example.org/a", "https://example.org/a"
    assert Session().get_redirect_target(answer) == "https://example.org/a"


def test_no_message_and_no_file_holds_a_password_or_a_token(server: FileServer, tmp_path: Path):
    path = server.serve("/a", CONTENT).removeprefix("http://")
    secret = f"http://someone:pass1234@{path}?token=tok5678#frag9"
    get(tmp_path / "a", secret)
    server.serve("/a", CONTENT, cuts=[CUT])
    texts = []
    for bad in (secret, secret.replace("/a?", "/absent?"), "http://u:pass1234@[::1/?token=tok5678",
                "http://u:pass1234@127.0.0.1:9/a?token=tok5678"):  # fmt: skip
        with pytest.raises(DownloadError) as caught:
            get(tmp_path / "b", bad)
        texts.append(str(caught.value))
    texts += [path.read_text() for path in tmp_path.glob("*.json")]
    assert len(texts) >= 6
    for text in texts:
        assert not any(word in text for word in ("someone", "pass1234", "tok5678", "frag9"))


def test_a_host_that_refuses_or_does_not_exist_is_told_in_words(tmp_path: Path):
    with pytest.raises(DownloadError, match="broke the connection"):
        get(tmp_path / "a", "http://127.0.0.1:9/a")
    with pytest.raises(DownloadError, match="host name that cannot be resolved"):
        get(tmp_path / "a", "http://nowhere.invalid/a")
