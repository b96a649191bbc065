"""What people have as captioned pictures: every form is read rightly, or refused with one sentence and exit code 2."""

import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from forms import (
    BYTES,
    FOUR,
    IN_CLASSES,
    LISTED,
    OF_CLASSES,
    PNGS,
    SHARD,
    SPLITS,
    WITH_JSON,
    beside,
    called,
    csv,
    cut,
    damaged,
    grey,
    inside,
    lines,
    parquet,
    parquets,
    png,
    rows,
    saved,
    tarred,
    tree,
    with_rows,
    zipped,
)
from PIL import Image

from minimuse import cli
from minimuse.config import PicturesConfig
from minimuse.data import captioned, reading, sources

RIGHT = {  # four pictures with the captions FOUR
    "plain": with_rows(),
    "train_and_val": tree({**SPLITS, "metadata.jsonl": lines(rows(names=SPLITS))}),
    "one_split": tree({f"train/{name}": content for name, content in LISTED.items()}),
    "no_file_name": with_rows(file="image_path"),
    "file_col": with_rows(file="file"),
    "caption_col": with_rows(key="caption"),
    "title_col": with_rows(key="title"),
    "upper_columns": with_rows(key="TEXT", file="File_Name"),
    "both_cols": with_rows([row | dict(text="long") for row in rows(key="caption")]),
    "crlf": tree({**PNGS, "metadata.jsonl": lines(rows(), "\r\n")}),
    "bom": tree({**PNGS, "metadata.jsonl": b"\xef\xbb\xbf" + lines(rows())}),
    "json_array": tree({**PNGS, "metadata.jsonl": json.dumps(rows(), indent=1).encode()}),
    "metadata_json": tree({**PNGS, "metadata.json": json.dumps(rows()).encode()}),
    "other_name": with_rows(name="captions.jsonl"),
    "csv": csv("file_name,text\n" + "".join(f"{i}.png,grey {i}\n" for i in range(4))),
    "csv_bom_crlf": csv("file_name,text\r\n" + "".join(f"{i}.png,grey {i}\r\n" for i in range(4)), "utf-8-sig"),
    "csv_semicolon": csv("file_name;text\n" + "".join(f"{i}.png;grey {i}\n" for i in range(4))),
    "csv_quotes": csv("file_name,text,by\n" + "".join(f'{i}.png,"grey {i}","a, b"\n' for i in range(4))),
    "nested": with_rows(files={f"a/b/{k}": v for k, v in PNGS.items()}, names=[f"a/b/{name}" for name in PNGS]),
    "images_beside": with_rows(name="captions.csv2.jsonl", files={f"images/{k}": v for k, v in PNGS.items()}),
    "unrelated_table": tree({f"{FOUR[i]}/{i}.png": png(i) for i in range(4)} | {"stats.csv": b"a,b\n1,2\n"}),
    "unrelated_json": tree({f"{FOUR[i]}/{i}.png": png(i) for i in range(4)} | {"a.json": b"{}", "b.json": b"1"}),
    "sub_metas": tree({**IN_CLASSES, **OF_CLASSES}),
    "class_train_rootmeta": tree({**IN_CLASSES, "metadata.jsonl": lines(rows(names=IN_CLASSES))}),
    "upper_ext": with_rows(names=["0.PNG", "1.PNG", "2.PNG", "3.PNG"], files={k.upper(): v for k, v in PNGS.items()}),
    "no_ext": with_rows(names=list("0123"), files={name[0]: v for name, v in PNGS.items()}),
    "dirty": tree(
        {
            **LISTED,
            ".DS_Store": b"x",
            "Thumbs.db": b"x",
            "._0.png": b"\0\5",
            "__MACOSX/._0.png": b"x",
            "README.md": b"#",
        }
    ),
    "sidecar_txt": tree({**PNGS, **{f"{i}.txt": f"{FOUR[i]}\n".encode() for i in range(4)}}),
    "sidecar_double": tree({**PNGS, **{f"{i}.png.txt": FOUR[i].encode() for i in range(4)}}),
    "classes": tree({f"grey_{name[0]}/x/../{name}".replace("x/../", ""): v for name, v in PNGS.items()}),
    "backslash": with_rows(names=[f"sub\\{k}" for k in PNGS], files={f"sub/{k}": v for k, v in PNGS.items()}),
    "dot_slash": with_rows(names=[f"./{name}" for name in PNGS]),
    "abs_path": lambda folder: with_rows(names=[str(folder / name) for name in PNGS])(folder),
    "a_metadata_file": inside(with_rows(), "metadata.jsonl"),
    "a_csv": inside(csv("file_name,text\n" + "".join(f"{i}.png,grey {i}\n" for i in range(4))), "metadata.csv"),
    "p_bytes": parquet(image=pa.array(BYTES, pa.binary()), text=FOUR),
    "p_largebinary": parquet(image=pa.array(BYTES, pa.large_binary()), text=FOUR),
    "p_struct": parquet(image=[dict(bytes=x, path=None) for x in BYTES], text=FOUR),
    "p_struct_bytesonly": parquet(image=[dict(bytes=x) for x in BYTES], text=FOUR),
    "p_struct_extra": parquet(image=[dict(bytes=x, path="a", sha="q") for x in BYTES], text=FOUR),
    "p_paths": lambda folder: beside([str(folder / name) for name in PNGS])(folder),
    "p_relpaths": beside(list(PNGS)),
    "p_arrays": parquet(image=[np.asarray(grey(i)).tolist() for i in range(4)], text=FOUR),
    "p_capimg": parquet(Image=BYTES, Text=FOUR),
    "p_img": parquet(img=BYTES, text=FOUR),
    "p_captions": parquet(image=BYTES, captions=[[caption] for caption in FOUR]),
    "p_dict": parquet(image=BYTES, text=pa.array(FOUR).dictionary_encode()),
    "upper": parquet("upper.PARQUET", image=BYTES, text=FOUR),
    "pf": parquets("data-00000-of-00001.parquet"),
    "pftest": parquets("train-0.parquet", "test-0.parquet"),
    "saved": saved(),
    "saved_dict": saved(["train"]),
    "saved_splits": saved(["test", "train"]),
    "zipped": zipped(LISTED),
    "zipfolder": zipped(LISTED, give=False),
    "wds": tarred(SHARD),
    "wds_json": tarred(WITH_JSON),
    "tar": tarred(LISTED, give=True),
} | {
    name: called(name)
    for name in ("my [2024] pics", "a%20b #1 (x)", "C#", "star*", "a::b", ".hidden", "__dunder", "x,y", "{a}", "test")
}


def read(source, tmp_path, **options):
    """(grey, captions) of each picture, in the order of the captions."""
    pictures = sources.Pictures(source, PicturesConfig(cache=str(tmp_path / "cache"), **options), (8,))
    count = len(pictures.prepare())
    greys = pictures.prepare().pixels(range(count), 8)[:, 0, 0, 0] // 40
    return sorted(((int(i), pictures.captions(n)) for n, i in enumerate(greys)), key=lambda pair: pair[1])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("case", RIGHT)
def test_pictures_of_every_form_come_in_with_their_captions(case, folder, tmp_path):
    assert read(RIGHT[case](folder), tmp_path) == [(i, (FOUR[i],)) for i in range(4)]


OTHERS = {  # what comes in that is not FOUR
    "caption_list": (
        with_rows(captions=[[f"a {i}", f"b {i}"] for i in range(4)]),
        [(f"a {i}", f"b {i}") for i in range(4)],
    ),
    "dup_rows": (
        with_rows([dict(file_name=f"{i % 4}.png", text=f"{i}") for i in range(8)]),
        [(f"{i}", f"{i + 4}") for i in range(4)],
    ),
    "dup_captions": (with_rows(captions=["a photo"] * 4), [("a photo",)] * 4),
    "csv_digits": (
        csv("file_name,text\n" + "".join(f"{i}.png,{i}\n" for i in range(4))),
        [(f"{i}",) for i in range(4)],
    ),
    "csv_null": (csv("file_name,text\n0.png,null\n1.png,nan\n2.png,None\n"), [("null",), ("nan",), ("None",)]),
    "class_train": (tree(IN_CLASSES), [("train",), ("bus",), ("cat",), ("train",)]),
    "lines": (tree({**PNGS, **{f"{i}.txt": b"one\n\ntwo\r\n" for i in range(4)}}), [("one", "two")] * 4),
}


@pytest.mark.parametrize("case", OTHERS)
def test_captions_may_be_several_or_names_of_folders(case, folder, tmp_path):
    build, expected = OTHERS[case]
    found = read(build(folder), tmp_path)
    assert sorted(found) == [(i, captions) for i, captions in enumerate(expected)]


def test_files_of_other_columns_are_read_together(folder, tmp_path):
    found = read(parquets(a="text", b="captions")(folder), tmp_path)
    assert [i for i, _ in found] == [0, 0, 1, 1, 2, 2, 3, 3]


NOTED = {  # what is left out, and the sentence that says so
    "train_and_val": (tree({**SPLITS, **{k.replace("png", "txt"): b"a" for k in SPLITS}}), 3, r"train.*val/3\.png"),
    "extra_file": (with_rows(files={**PNGS, "extra.png": png(5)}), 4, r"extra\.png"),
    "dirty": (tree({**LISTED, "README.md": b"#"}), 4, r"README\.md"),
    "hidden_folder": (tree({**LISTED, ".old/9.png": png(1)}), 4, r"\.old"),
    "both_cols": (with_rows([row | dict(text="long") for row in rows(key="caption")]), 4, r"'caption'.*text"),
    "pftest": (parquets("train-0.parquet", "test-0.parquet"), 4, r"test-0\.parquet"),
    "mixed": (tree({**LISTED, "old.zip": b"x"}), 4, r"old\.zip"),
    "saved_splits": (saved(["test", "train"]), 4, r"test \(4\)"),
}


@pytest.mark.parametrize("case", NOTED)
def test_nothing_is_left_out_without_a_sentence(case, folder, tmp_path, capsys):
    build, count, message = NOTED[case]
    assert len(read(build(folder), tmp_path)) == count
    assert re.search(message, capsys.readouterr().out)


def bad(name: str, content: bytes):
    return tree({**LISTED, name: content})


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20000, 12000)).save(buffer, "PNG")
    return buffer.getvalue()


WRONG = {  # and what the sentence names
    "missing_file": (with_rows([*rows(), dict(file_name="4.png", text="a")]), r"4\.png"),
    "no_metadata": (tree(PNGS), r"metadata\.jsonl.*\.txt"),
    "one_folder": (tree({f"images/{name}": content for name, content in PNGS.items()}), "without captions"),
    "one_folder_table": (
        tree({**{f"images/{k}": v for k, v in PNGS.items()}, "about.csv": b"where,what\n0.png,a\n"}),
        "where, what.*--image-column",
    ),
    "no_known_column": (with_rows(key="title of it"), r"title of it.*--caption-column"),
    "no_known_file": (with_rows(file="where"), r"where.*--image-column"),
    "mixed_types": (with_rows(captions=[7, "a", "b", "c"]), r"row 0.*\b7\b"),
    "empty_captions": (with_rows(captions=["", " ", "", ""]), "row 0.*empty"),
    "missing_key": (with_rows([dict(file_name="0.png"), *rows()[1:]]), "row 0.*None"),
    "broken_json": (
        tree({**PNGS, "metadata.jsonl": b'{"file_name": "0.png", "text": "a"}\n{"file_name": \n'}),
        "Line 2",
    ),
    "deep_json": (tree({**PNGS, "metadata.jsonl": b"[" * 100_000}), r"metadata\.jsonl"),
    "json_numbers": (tree({**PNGS, "metadata.jsonl": b"1\n2\n"}), r"metadata\.jsonl.*1"),
    "empty_meta": (tree({**PNGS, "metadata.jsonl": b""}), r"metadata\.jsonl.*no rows"),
    "latin1_meta": (tree({**PNGS, "metadata.jsonl": '{"file_name": "0.png", "text": "é"}'.encode("latin-1")}), "UTF-8"),
    "csv_latin1": (csv("file_name,text\n0.png,café\n", "latin-1"), "UTF-8.*line 2"),
    "csv_comma": (csv("file_name,text\n0.png,a cat, a dog\n"), r"Line 2 of .*metadata\.csv"),
    "two_tables": (tree({**LISTED, "metadata.csv": b"file_name,text\n0.png,a\n"}), r"metadata\.csv, metadata\.jsonl"),
    "zero_byte": (bad("1.png", b""), r"1\.png.*empty"),
    "corrupt": (bad("2.png", png(2)[:60]), r"2\.png"),
    "html_png": (bad("2.png", b"<html>404</html>"), r"2\.png.*web page"),
    "lfs": (bad("2.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n"), r"2\.png.*LFS"),
    "huge": (bad("2.png", bomb()), r"2\.png.*pixels"),
    "empty_folder": (tree({}), "nothing"),
    "outside": (with_rows([*rows(), dict(file_name="../9.png", text="a")]), r"\.\./9\.png.*outside"),
    "absolute": (with_rows([*rows(), dict(file_name="/etc/passwd", text="a")]), r"/etc/passwd.*outside"),
    "url": (with_rows(names=[f"https://x.org/{name}" for name in PNGS]), "web address"),
    "missing_in_split": (
        tree({**SPLITS, **{f"{s}/metadata.jsonl": lines(rows(names=["0.png", "9.png"])) for s in ("train", "val")}}),
        r"train/9\.png",
    ),
    "ambiguous": (tree({"a/0.png": png(0), "b/0.png": png(1), "metadata.jsonl": lines(rows()[:1])}), r"\(0\.png\)"),
    "p_b64": (parquet(image=["iVBORw0KGgo="] * 4, text=FOUR), "iVBORw0KGgo="),
    "p_long_b64": (parquet(image=["iVBORw0KGgo=" * 1000] * 4, text=FOUR), "iVBORw0KGgo="),
    "p_ints": (parquet(image=list(range(4)), text=FOUR), "int64.*--image-column"),
    "p_outside": (parquet(image=["/etc/passwd"] * 4, text=FOUR), "/etc/passwd.*outside"),
    "p_nullimg": (parquet(image=pa.array([BYTES[0], None, *BYTES[2:]], pa.binary()), text=FOUR), "row 1"),
    "p_empty": (parquet(image=pa.array([], pa.binary()), text=pa.array([], pa.string())), "no pictures"),
    "p_no_columns": (parquet(a=[1], b=[2]), "a, b.*--image-column"),
    "p_numbers": (parquet(image=[[[1, 2], [3, 400]]] * 4, text=FOUR), "400"),
    "p_ragged": (parquet(image=[[[1, 2], [3]]] * 4, text=FOUR), "row 0"),
    "cut.parquet": (cut(parquet(image=BYTES, text=FOUR), 200), r"p\.parquet"),
    "zero.parquet": (cut(parquet(image=BYTES, text=FOUR), 0), r"p\.parquet"),
    "cut.zip": (cut(zipped(LISTED), 300), r"pics\.zip"),
    "cut.tar": (cut(tarred(SHARD, give=True), 1700), r"0\.tar"),
    "tar.gz": (tarred(SHARD, "0.tar.gz", give=True, mode="w:gz"), r"0\.tar\.gz.*unpack"),
    "gz_called_tar": (tarred(SHARD, "0.tar", give=True, mode="w:gz"), r"0\.tar.*unpack"),
    "damaged_member": (
        lambda folder: damaged(zipped({"metadata.jsonl": lines(rows()), **PNGS})(folder), b"grey 2", b"gray 2"),
        r"metadata\.jsonl.*CRC",
    ),
    "encrypted": (
        lambda folder: damaged(
            zipped(LISTED)(folder), b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"
        ),
        "encrypted",
    ),
    "zip_slip": (zipped({**LISTED, "../evil.png": b"x"}), r"\.\./evil\.png"),
    "zip_absolute": (zipped({**LISTED, "/evil.png": b"x"}), r"/evil\.png"),
    "tar_slip": (tarred({**LISTED, "a/../../evil.png": b"x"}), r"evil\.png"),
    "zipfolder2": (
        lambda folder: tree({"metadata.jsonl": lines(rows())})(zipped(LISTED, give=False)(folder)),
        "pics.zip",
    ),
    "file_only.txt": (inside(tree({"file_only.txt": b"x"}), "file_only.txt"), r"file_only\.txt"),
    "one_picture": (inside(tree(PNGS), "0.png"), r"0\.png"),
    "broken_saved": (tree({"state.json": b"{", "dataset_info.json": b"{"}), "saved data set"),
    "nowhere": (lambda folder: folder / "nowhere", "nowhere"),
    "nowhere.parquet": (lambda folder: folder / "nowhere.PARQUET", "nowhere"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_one_sentence_and_exit_code_2(case, folder, tmp_path, capsys):
    build, message = WRONG[case]
    source, cache = build(folder), tmp_path / "cache"
    with pytest.raises(SystemExit, match="2"):
        cli.main(
            ["train", "tokenizer", "--preset", "micro", "--data", str(source), "--cache", str(cache)]
            + ["--out", str(tmp_path / "run")]
        )
    error = capsys.readouterr().err.rpartition("minimuse: ")[2]
    assert re.search(message, error) and error.count("\n") == 1 and "Traceback" not in error


def test_columns_are_named_by_option(folder, tmp_path):
    path = parquet(photo_of_it=BYTES, title_of_it=FOUR, text=["no"] * 4)(folder)
    found = read(path, tmp_path, image_column="photo_of_it", caption_column="title_of_it")
    assert found == [(i, (FOUR[i],)) for i in range(4)]
    with pytest.raises(ValueError, match="'title'.*--caption-column"):
        captioned.load_captioned(path, image="photo_of_it", caption="title")


def test_rows_columns_and_slices_are_those_of_a_dataset(folder):
    pictures = captioned.load_captioned(with_rows()(folder))
    assert pictures.column_names == ["image", "caption"] and len(pictures) == 4
    assert pictures["caption"][:] == FOUR and pictures[-1]["caption"] == FOUR[3] == pictures[2:]["caption"][1]
    assert [image.getpixel((0, 0))[0] for image in pictures["image"]] == [0, 40, 80, 120]
    with pytest.raises(KeyError, match="text"):
        pictures["text"]
    with pytest.raises(IndexError):
        pictures[4]


def test_a_hub_name_goes_to_the_hub_once_it_is_known_to_be_there(monkeypatch, capsys):
    import huggingface_hub

    asked = []

    def info(self, name, **options):
        asked.append(name)
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=None)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    with pytest.raises(FileNotFoundError, match="my_pictures"):
        reading.read("my_pictures", "train", None, None, [])
    assert asked == ["my_pictures"]
    for name in ("./pictures", "~/pictures", "a/b/c", "my pictures", "pictures.zip"):
        with pytest.raises(FileNotFoundError, match=name):
            reading.read(name, "train", None, None, [])
    assert asked == ["my_pictures"]
