"""Builders of captioned pictures in the forms that people have: each takes an empty folder and returns what to read."""

import io
import json
import tarfile
import zipfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FOUR = ["grey 0", "grey 1", "grey 2", "grey 3"]


def grey(i: int, size=(8, 8)) -> Image.Image:
    return Image.new("RGB", size, (40 * i,) * 3)


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    grey(i).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = {f"{i}.png": png(i) for i in range(4)}


def rows(key="text", file="file_name", names=PNGS, captions=FOUR) -> list[dict]:
    return [{file: name, key: caption} for name, caption in zip(names, captions)]


def lines(records: list[dict], end="\n") -> bytes:
    return "".join(json.dumps(row) + end for row in records).encode()


def tree(files: dict[str, bytes]):
    """A builder of a folder with these files."""

    def build(folder):
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return build


def with_rows(records=None, files=PNGS, name="metadata.jsonl", **options):
    return tree({**files, name: lines(rows(**options) if records is None else records)})


def csv(text: str, encoding="utf-8"):
    return tree({**PNGS, "metadata.csv": text.encode(encoding)})


def called(name: str):
    """A builder of a data set in a folder of this name."""

    def build(folder):
        (folder / name).mkdir()
        return with_rows()(folder / name)

    return build


def moved(where: dict[str, str]) -> dict[str, bytes]:
    return {new: PNGS[old] for old, new in where.items()}


IN_CLASSES = moved({"0.png": "train/0.png", "1.png": "bus/1.png", "2.png": "cat/2.png", "3.png": "train/3.png"})
OF_CLASSES = {
    "train/metadata.jsonl": lines([dict(file_name=f"{i}.png", text=f"grey {i}") for i in (0, 3)]),
    "bus/metadata.jsonl": lines([dict(file_name="1.png", text="grey 1")]),
    "cat/metadata.jsonl": lines([dict(file_name="2.png", text="grey 2")]),
}
SPLITS = moved({"0.png": "train/0.png", "1.png": "train/1.png", "2.png": "train/2.png", "3.png": "val/3.png"})


def parquet(name="p.parquet", **columns):
    def build(folder):
        pq.write_table(pa.table(columns), folder / name)
        return folder / name

    return build


def parquets(*names, **columns):
    def build(folder):
        for name in names:
            pq.write_table(pa.table(dict(image=list(PNGS.values()), text=FOUR)), folder / name)
        for name, column in columns.items():
            pq.write_table(pa.table({"image": list(PNGS.values()), column: FOUR}), folder / f"{name}.parquet")
        return folder

    return build


def beside(image: list):
    """A Parquet file that names files in its own folder."""

    def build(folder):
        tree(PNGS)(folder)
        return parquet(image=image, text=FOUR)(folder)

    return build


def zipped(files: dict[str, bytes], name="pics.zip", give=True):
    def build(folder):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return folder / name if give else folder

    return build


def tarred(files: dict[str, bytes], name="0.tar", give=False, mode="w"):
    def build(folder):
        with tarfile.open(folder / name, mode) as archive:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return folder / name if give else folder

    return build


def saved(of_splits=()):
    def build(folder):
        features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
        whole = datasets.Dataset.from_dict(dict(image=[grey(i) for i in range(4)], text=FOUR), features=features)
        found = datasets.DatasetDict(dict.fromkeys(of_splits, whole)) if of_splits else whole
        found.save_to_disk(str(folder / "saved"))
        return folder / "saved"

    return build


def damaged(path, old: bytes, new: bytes):
    """A file in which some bytes are replaced."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def inside(build, name):
    """A builder that gives a file of what another one builds."""
    return lambda folder: build(folder) / name


def cut(build, size):
    def cut_one(folder):
        path = build(folder)
        path.write_bytes(path.read_bytes()[:size])
        return path

    return cut_one


LISTED = {**PNGS, "metadata.jsonl": lines(rows())}
SHARD = {f"{i:03}.{end}": data for i in range(4) for end, data in (("png", png(i)), ("txt", FOUR[i].encode()))}
WITH_JSON = {
    f"{i:03}.{end}": data
    for i in range(4)
    for end, data in (("png", png(i)), ("json", lines([dict(caption=FOUR[i], width=8)])))
}
BYTES = list(PNGS.values())
