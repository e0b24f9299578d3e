import pytest
import torch

from fmbseg.vocabulary import Vocabulary, VocabularyError, encode, read_classes


class LetterClip:
    dim = 26

    def encode_dense(self, image):
        raise AssertionError("no image is needed")

    def encode_text(self, names):
        rows = torch.zeros(len(names), 26)
        for row, name in enumerate(names):
            for letter in name.lower():
                if letter.isalpha():
                    rows[row, ord(letter) - 97] += 1
        return torch.nn.functional.normalize(rows, dim=1)


def test_a_class_file_gives_names_in_order_with_synonyms(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffsky\r\n\r\nbrick  wall , masonry,wall\ncafé\n".encode())
    found = read_classes(path)
    assert found.names == ("sky", "brick wall", "café")
    assert found.synonyms == ((), ("masonry", "wall"), ())
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("sky\nSKY\n", "'SKY' is given twice"),
        ("sky\ncar,sky\n", "for 'sky' and for 'car'"),
        ("car, Car", "given twice"),
        ("sky\ncar,,auto\n", "line 2"),
        (",car", "line 1"),
        ("\n".join(f"class {i}" for i in range(256)), "256 classes; wanted at most 255"),
    ],
)
def test_a_bad_class_file_is_refused_with_file_and_reason(tmp_path, text, words):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=words) as caught:
        read_classes(path)
    assert "classes.txt" in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00\x81")
    for name, words in (("a.txt", "no such file"), ("b.txt", "UTF-8")):
        with pytest.raises(VocabularyError, match=words):
            read_classes(tmp_path / name)


def test_255_classes_are_allowed():
    assert len(Vocabulary(tuple(str(i) for i in range(255)))) == 255


def test_synonyms_must_fit_the_names():
    with pytest.raises(VocabularyError, match="wanted 2"):
        Vocabulary(("a", "b"), (("c",),))


def test_features_are_unit_means_over_a_classs_names():
    vocabulary = Vocabulary(("cat", "dog", "x"), (("kitten", "tom"), (), ("yz",)))
    clip = LetterClip()
    features = encode(clip, vocabulary)
    for row, group in zip(features, [["cat", "kitten", "tom"], ["dog"], ["x", "yz"]], strict=True):
        total = torch.stack([clip.encode_text([name])[0] for name in group]).sum(0)
        torch.testing.assert_close(row, total / total.norm())


def test_commas_and_semicolons_part_the_names_of_one_class(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("road, street; asphalt\nsky\n")
    found = read_classes(path)
    assert found.names == ("road", "sky")
    assert found.synonyms == (("street", "asphalt"), ())
    assert found.groups == (("road", "street", "asphalt"), ("sky",))
    path.write_text("\n".join(found.lines()))
    assert read_classes(path) == found
    assert Vocabulary.of([("road", "street", "asphalt"), "sky"]) == found
    with pytest.raises(VocabularyError, match="without a name"):
        Vocabulary.of(["sky", ()])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sky\u202eyks", "U+202E (RIGHT-TO-LEFT OVERRIDE), which turns the reading direction"),
        ("\u2067sky", "U+2067"),
        ("sky\u200f", "U+200F (RIGHT-TO-LEFT MARK)"),
        ("s\u200bky", "U+200B (ZERO WIDTH SPACE), which shows nothing"),
        ("sky\x1b[31m", "U+001B, a control character; remove it"),
        ("two\nlines", "U+000A"),
        ("a\u2028b", "U+2028"),
        ("half\ud800", "U+D800, half of a character"),
        ("long " * 50, "has 250 characters; wanted at most 200"),
    ],
)
def test_names_that_could_not_be_shown_as_they_are_are_refused_with_words(name, words):
    for vocabulary in (lambda: Vocabulary((name,)), lambda: Vocabulary(("a",), ((name,),))):
        with pytest.raises(VocabularyError) as caught:
            vocabulary()
        text = str(caught.value)
        assert words in text
        assert text.isprintable()
        assert len(text) < 250


@pytest.mark.parametrize(
    "name",
    ["שמיים", "سماء", "می‌خواهم", "क्‍ष", "<b>sky</b>", "\"quoted\" & 'sky'", "👩‍🌾", "café", "天空"],
)
def test_names_of_any_script_with_quotes_and_html_are_fine(name, tmp_path):
    assert Vocabulary((name,)).names == (name,)
    (tmp_path / "classes.txt").write_text(f"{name}\n", encoding="utf-8")
    assert read_classes(tmp_path / "classes.txt").names == (name,)


def test_a_class_file_with_a_turning_mark_is_refused_with_its_name(tmp_path):
    (tmp_path / "classes.txt").write_text("grass\nsky\u202e\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"classes.txt: the class name 'sky\\u202e' holds"):
        read_classes(tmp_path / "classes.txt")
