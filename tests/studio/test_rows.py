"""Captions from a file, and how pictures of several captions are numbered."""

import json
import re

import pytest

from minimuse.studio.rows import Row, pictures_of, read_rows, rows_of


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_pictures_of_one_seed_are_numbered_through():
    rows = rows_of(["a", "b"], negative="c", seed=7, index=3, n=2)
    assert rows == [Row("a", "c", 7, 3, 2), Row("b", "c", 7, 5, 2)]
    assert [(p.caption, p.index, p.row) for p in pictures_of(rows)] == [
        ("a", 3, 0),
        ("a", 4, 0),
        ("b", 5, 1),
        ("b", 6, 1),
    ]


def test_a_text_file_is_what_its_lines_would_be_on_the_command_line(tmp_path):
    path = written(tmp_path, "c.txt", "\ufeffa cat\r\n\r\n  two dogs \nein Übungsbild\n")
    options = dict(negative="rain", seed=2, index=1, n=3)
    assert read_rows(path, **options) == rows_of(["a cat", "two dogs", "ein Übungsbild"], **options)


def test_only_ends_of_lines_separate_captions(tmp_path):
    path = written(tmp_path, "c.txt", "a cat\ra dog\u2028or two\r\na cup\n")
    assert [row.caption for row in read_rows(path)] == ["a cat", "a dog\u2028or two", "a cup"]


@pytest.mark.parametrize(
    "text", ["text,n\na cat,2", "\n \nPROMPT;n\na cat;2\n", "caption|n\ra cat|2\r", "text\tn\na cat\t2"]
)
def test_tables_of_other_programs_are_read(tmp_path, text):
    assert read_rows(written(tmp_path, "c.csv", text)) == [Row("a cat", n=2)]


EXPECTED = [
    Row("a cat", "", 5, 0, 1),
    Row('two dogs, "big"', "a cat", 9, 0, 2),
    Row("a cup", "", 5, 1, 3),
    Row("a hat", "", 9, 4, 1),
    Row("a car", "", 5, 4, 1),
]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_has_settings_of_its_own(tmp_path, mark):
    lines = [
        ["Caption", "negative", "seed", "n", "index"],
        ["a cat", "", "", "", ""],
        ['"two dogs, ""big"""', "a cat", "9", "2", ""],
        ["a cup", "", "", "3", ""],
        [""] * 5,
        ["a hat", "", "9", "", "4"],
        ["a car", "", "", "", ""],
    ]
    name = "c.tsv" if mark == "\t" else "c.csv"
    path = written(tmp_path, name, "\n".join(mark.join(line) for line in lines))
    assert read_rows(path, seed=5) == EXPECTED


def test_json_lines_have_settings_of_their_own(tmp_path):
    lines = [
        dict(caption="a cat"),
        dict(text='two dogs, "big"', negative="a cat", seed=9, n=2),
        dict(prompt="a cup", n=3, seed=None),
        dict(caption="a hat", seed=9, index=4),
        dict(caption="a car"),
    ]
    path = written(tmp_path, "c.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_rows(path, seed=5) == EXPECTED


@pytest.mark.parametrize(
    "name, text, line, value",
    [
        ("c.csv", "caption,seed\na cat,1\na dog,x\n", 3, "'x'"),
        ("c.csv", "caption,seed\na cat,-1\n", 2, "-1"),
        ("c.csv", "caption,n\na cat,0\n", 2, "0"),
        ("c.csv", "caption,n\na cat,1.5\n", 2, "'1.5'"),
        ("c.csv", 'caption,n\n"a cat,\nand a dog",2\na cat\n', 4, "1"),
        ("c.csv", "caption,n\n ,2\n", 2, "caption"),
        ("c.csv", 'caption\n"a cat\n', 2, "c.csv"),
        ("c.jsonl", '{"caption": "a cat"}\n{"caption": 5}\n', 2, "5"),
        ("c.jsonl", '{"caption": "a cat"}\n["a dog"]\n', 2, "JSON"),
        ("c.jsonl", '{"caption": "a cat", "seed": true}\n', 1, "True"),
        ("c.jsonl", '{"caption": "a cat", "sed": 3}\n', 1, "'sed'"),
        ("c.jsonl", "{" * 100_000 + "\n", 1, "JSON"),
        ("c.txt", b"a cat\n\xff\n", 2, "UTF-8"),
        ("c.csv", "caption,seed\na cat," + "9" * 6000, 2, "9999"),
        ("c.jsonl", json.dumps(dict(caption=[1] * 5000)), 1, "[1, 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, name, text, line, value):
    path = written(tmp_path, name, text)
    with pytest.raises(ValueError) as error:
        read_rows(path)
    said = str(error.value)
    assert value in said and str(path) in said and f"line {line}" in said.lower() and "\n" not in said
    assert len(said) < 600


NO_CAPTIONS = {
    "empty lines": ("c.txt", "\n \n"),
    "only a header": ("c.csv", "caption\n"),
    "nothing": ("c.csv", ""),
    "no caption": ("c.csv", "words\na cat\n"),
    "an unknown column": ("c.csv", "caption,sed\na cat,1\n"),
    "two columns of one name": ("c.csv", "caption,caption\na cat,a dog\n"),
    "two columns of captions": ("c.csv", "caption,text\na cat,a dog\n"),
    "another kind": ("c.pdf", "a cat"),
    "a long name": ("c.csv", "[" * 100_000),
}


@pytest.mark.parametrize("name, text", NO_CAPTIONS.values(), ids=NO_CAPTIONS)
def test_files_without_captions_are_refused(tmp_path, name, text):
    path = written(tmp_path, name, text)
    with pytest.raises(ValueError, match=name) as error:
        read_rows(path)
    options = set(re.findall(r"--\w+", str(error.value)))
    assert options <= {"--captions"}  # generate has no other option for it
    assert len(str(error.value)) < 2000


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_rows(tmp_path / "nowhere.txt")
