"""Names of files by a pattern, and sheets with captions."""

import numpy as np
import pytest

from minimuse.studio import sheets
from minimuse.studio.rows import pictures_of, rows_of
from minimuse.studio.sheets import columns_of, names_of, not_in_font, sheet_of, slug, wrapped

PICTURES = pictures_of(rows_of(["a cat", "Two  dogs: big/small?"], seed=5, index=8, n=2))


def test_names_follow_the_pattern(tmp_path):
    names = names_of(f"{tmp_path}/{{number}}_{{row}}_{{seed}}_{{index:03}}_{{caption}}.png", PICTURES)
    assert [path.name for path in names] == [
        "0_0_5_008_a-cat.png",
        "1_0_5_009_a-cat.png",
        "2_1_5_010_two-dogs-big-small.png",
        "3_1_5_011_two-dogs-big-small.png",
    ]


@pytest.mark.parametrize(
    "pattern, value",
    [
        ("{seed}.png", "5.png"),  # two of one name
        ("{seed.real}.png", "seed.real"),
        ("{number!x}.png", "number"),
        ("{0}.png", "0"),
        ("{.png", "{"),
        ("{index:q}.png", "q"),
        ("{sed}.png", "sed"),
        ("{number}.txt", ".txt"),
        ("{seed:c}\0.png", "0"),
        ("{number:99999999999}.png", "99999999999"),
        ("{number:300}.png", "255"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused(pattern, value):
    with pytest.raises(ValueError) as error:
        names_of(pattern, PICTURES)
    assert value in str(error.value) and "\n" not in str(error.value)


def test_numbers_that_no_letter_has_are_refused():
    with pytest.raises(ValueError, match="--each"):
        names_of("{seed:c}.png", pictures_of(rows_of(["a cat"], seed=0x110000)))


def test_a_folder_of_a_pictures_name_is_found_before_drawing(tmp_path):
    (tmp_path / "2.png").mkdir()
    with pytest.raises(ValueError, match=r"2\.png"):
        names_of(f"{tmp_path}/{{number}}.png", PICTURES)


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        names_of("nowhere/{number}.png", PICTURES)


def test_slugs_are_safe_names():
    assert slug("../../etc/passwd") == "etc-passwd" and slug("?!") == "picture" and slug("Ü 習") == "ü-習"
    assert len(slug("word " * 99)) <= sheets.LONGEST


def pictures(n):
    return np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)


def test_a_caption_of_several_pictures_has_a_row():
    sheet = sheet_of(pictures(5), [2, 3], ["a", "b"], 3, 2, False)
    assert sheet.shape == (16, 36, 3)
    assert sheet[::8, ::12, 0].tolist() == [[1, 2, 255], [3, 4, 5]]


def test_captions_of_one_picture_each_fill_rows():
    sheet = sheet_of(pictures(5), [1] * 5, list("abcde"), 2, 1, False)
    assert sheet[::4, ::6, 0].tolist() == [[1, 2], [3, 4], [5, 255]]
    assert columns_of([1] * 9, True) == 3 and columns_of([1] * 9, False) == 1 and columns_of([2, 5, 1], True) == 5


@pytest.mark.parametrize("rows, columns", [([2, 2], 2), ([1, 1, 1], 2)])
def test_labels_are_above_their_pictures_and_change_none(rows, columns):
    images = np.full((sum(rows), 64, 96, 3), 200, np.uint8)
    captions = ["a cat left of a dog on a blue background", "Katze, кошка, γάτα", "x" * 40][: len(rows)]
    plain, labelled = (sheet_of(images, rows, captions, columns, 1, labels) for labels in (False, True))
    assert labelled.shape[1] == plain.shape[1] and labelled.shape[0] > plain.shape[0]
    assert (labelled == 200).all(-1).sum() == (plain == 200).all(-1).sum()  # black on white beside them
    assert (labelled.min(-1) < 50).any()


def test_a_caption_is_written_once(monkeypatch):
    written = []
    monkeypatch.setattr(sheets, "label", lambda text, width, lines: written.append((text, width)) or sheets.np.zeros(3))
    sheet_of(np.zeros((5, 8, 64, 3), np.uint8), [3, 2], ["a", "b"], 3, 1, True)
    sheet_of(np.zeros((3, 8, 64, 3), np.uint8), [1] * 3, list("cde"), 2, 1, True)
    assert written == [("a", 192), ("b", 192), ("c", 64), ("d", 64), ("e", 64)]


def test_long_words_are_cut_and_nothing_is_lost():
    text = "a " + "w" * 60 + " cat"
    lines = wrapped(text, 88)
    assert all(sheets._font().getlength(line) <= 88 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped("", 88) == [] and len(wrapped("abc", 1)) == 3
    assert "".join(wrapped("x" * 5000, 56)) == "x" * 5000


def test_letters_that_labels_cannot_show_are_known():
    assert not_in_font(["a cat", "Katze, кошка, γάτα"]) == ""
    assert not_in_font(["eine 猫 und\neine 猫", "犬"]) == "猫犬"
