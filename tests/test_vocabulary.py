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
        total = sum(clip.encode_text([name])[0] for name in group)
        torch.testing.assert_close(row, total / total.norm())
