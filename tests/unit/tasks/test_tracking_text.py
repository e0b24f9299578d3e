"""Names full of markup, control characters and turned letters, as MLflow and Markdown get them."""

import html
import re

import pytest
from mlflow.utils.validation import _validate_metric_name

from fmbseg.store.names import markdown_text
from tasks.tracking.changes import changes
from tasks.tracking.facts import metric_names, one_line

HOSTILE = (
    "<script>alert(1)</script>", "a|b", "`rm`", "**bold**", "[x](javascript:y)", "line\nbreak",
    "nul\x00", "\u202egnp.exe", "\u200fיד", "‘quotes’ \"'", "http://evil.example", "&lt;", "~~x~~",
    "कुत्ता", "a\\b", "<img src=x onerror=alert(1)>",
)  # fmt: skip


def test_class_names_that_look_alike_to_mlflow_keep_metrics_of_their_own():
    names = [*HOSTILE, "a/b", "a_b", "a:b", "A_B", "a_b-2", "x" * 300, "x" * 299]
    found = metric_names(names)
    assert list(found) == names
    assert found["a_b"] == "a_b", "a name that can stay does"
    folded = [name.casefold() for name in found.values()]
    assert len(set(folded)) == len(names)
    for name in found.values():
        _validate_metric_name(f"pseudo_masks.stage11.found.{name}")
        assert len(f"pseudo_masks.stage11.found.{name}") <= 250


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_a_hostile_name_and_obeys_none_of_it(name: str):
    text = markdown_text(name)
    assert not re.search(r"[<>|`*\[\]~_\n\x00\u202e\u200f]", text)
    assert "://" not in text
    visible = html.unescape(text)
    for character in "<>|`*[]~":
        assert visible.count(character) == name.count(character)


def test_plain_names_stay_as_they_are_in_markdown():
    for name in ("traffic light", "T-shirt", "Straße (nass)", "木", "سگ\u200cها"):
        assert markdown_text(name) == name


def test_a_value_for_mlflow_is_one_line_of_a_bounded_length():
    assert one_line("a\nb\u202ec", 100) == "a\\nb\\u202ec"
    assert len(one_line("x" * 9000, 5000)) == 5000
    assert one_line("\udcff", 10) == "\\xff"


def test_a_run_says_that_corrections_came_or_say_something_else():
    plain = {"key.images": "i", "images": "3", "code": "c", "packages": "p"}
    some = {**plain, "corrections": "2", "key.corrections": "x"}
    other = {**some, "key.corrections": "y"}
    assert changes({}, plain, {}, some) == "corrections 0 → 2"
    assert changes({}, some, {}, other) == "corrections 2 that say something else"
