"""Checkpoints from the Hugging Face Hub and to it, over a small Hub on this machine; no test needs a network."""

import base64
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import STEPS

import minimuse as mm
from minimuse import cli, hub, sharing
from minimuse.config import data_dir
from minimuse.evaluate.stored import weights_of
from minimuse.weights import find_checkpoint, fingerprint_of

NAME = "user/muse"
CODES = dict(missing=(404, "RepoNotFound"), gated=(403, "GatedRepo"), forbidden=(403, ""), broken=(500, ""))


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's protocol that models need. The server has:

    models     {"user/name": {branch: {path: bytes}}}
    private    names of private models
    refuses    {"user/name": a key of CODES}
    asked      [(method, path)]
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, content=b"", status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (dict(Content_Length=len(content)) | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refused(self, name):
        status, code = CODES[self.server.refuses[name] if name in self.server.refuses else "missing"]
        self.reply(dict(error="no"), status, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path))
        found = re.fullmatch(
            r"/api/models/(\w+/\w+)(?:/(revision|tree)/([^/]+))?|/(\w+/\w+)/resolve/([^/]+)/(.+)", path
        )
        if found is None:  # what a later huggingface_hub may ask for, and does without
            return self.reply({}, 404)
        name, what, branch, named, commit, file = found.groups()
        name, branch = name or named, branch or commit or "main"
        branches = self.server.models.get(name)
        if branches is None or name in self.server.refuses:
            return self.refused(name)
        commits = {hashlib.sha1(f"{name}{b}{sorted(files)}".encode()).hexdigest(): b for b, files in branches.items()}
        sha = branch if branch in commits else next((c for c, b in commits.items() if b == branch), None)
        if sha is None:
            return self.reply({}, 404, X_Error_Code="RevisionNotFound")
        files = branches[commits[sha]]
        if file is None and what == "tree":
            oid = lambda data: hashlib.sha1(data).hexdigest()
            return self.reply([dict(type="file", path=p, size=len(d), oid=oid(d)) for p, d in files.items()])
        if file is None:
            siblings = [dict(rfilename=path) for path in files]
            return self.reply(dict(id=name, sha=sha, private=name in self.server.private, siblings=siblings))
        if file not in files:
            return self.reply({}, 404, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
        return self.reply(files[file], ETag=etag, X_Repo_Commit=sha)

    do_HEAD = do_GET

    def do_POST(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(("POST", path))
        body, models = self.rfile.read(int(self.headers.get("Content-Length", 0))), self.server.models
        if path == "/api/validate-yaml":
            return self.reply(dict(errors=[], warnings=[]))
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            if name in self.server.refuses:
                return self.refused(name)
            url = f"{self.server.address}/{name}"
            if name in models:
                return self.reply(dict(error="exists", url=url), 409)
            models[name] = dict(main={})
            self.server.private |= {name} if given.get("private") or given.get("visibility") == "private" else set()
            return self.reply(dict(url=url))
        name, what, branch = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|branch|commit)/(.+)", path).groups()
        if what == "branch":
            models[name].setdefault(branch, dict(models[name]["main"]))
            return self.reply({})
        if what == "preupload":
            files = [dict(path=f["path"], uploadMode="regular", shouldIgnore=False) for f in json.loads(body)["files"]]
            return self.reply(dict(files=files))
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                models[name][branch][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = f"{self.server.address}/{name}/commit/{'0' * 40}"
        return self.reply(dict(commitUrl=commit, commitOid="0" * 40))


def move(monkeypatch, address):
    """Where huggingface_hub looks for the Hub, as HF_ENDPOINT says it to a new process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    url = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub without models, and an empty cache; what huggingface_hub does is its own."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.models, server.private, server.refuses, server.asked = {}, set(), {}, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True)
    thread.start()
    move(monkeypatch, server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def own_text(micro_folder, tmp_path_factory):
    """The micro checkpoint with a text encoder of its own, and its config.json saying how it was trained."""
    folder = tmp_path_factory.mktemp("own") / "run"
    shutil.copytree(micro_folder, folder)
    shutil.copytree(data_dir() / "t5-scenes", folder / "text")
    values = json.loads((folder / "config.json").read_text())
    pictures = dict(crop="pad", flip=True, cache="/somewhere/else")
    base = dict(steps=70, batch=8, learning_rate=0.003, start="/somewhere/tiny")
    about = dict(text="text", data="/somewhere/my-pictures", pictures=pictures, trained=dict(base=base, diffusion=base))
    (folder / "config.json").write_text(json.dumps(values | about))
    return folder


MORE = {  # beside a checkpoint, and never downloaded
    "pytorch_model.bin": b"pickled",
    "modeling.py": b"raise SystemExit",
    "model.safetensors": b"of another library",
    "README.md": b"# A model",
    "text/spiece.model": b"1",
    "text/tokenizer_config.json": b"{}",
    "other/model.safetensors": b"1",
}


# --- from the Hub ---------------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_draws_as_its_folder_and_only_its_own_files_are_asked_for(server, own_text, micro):
    server.models[NAME] = dict(main=content(own_text) | MORE)
    muse = mm.Muse.from_pretrained(NAME)
    draw = lambda muse: muse.generate(["a cat", "a dog"], steps=STEPS)
    assert (draw(muse) == draw(micro)).all()
    files = {path.partition("/resolve/")[2].partition("/")[2] for _, path in server.asked if "/resolve/" in path}
    text = {f"text/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")}
    assert files == {"config.json", "tokenizer.safetensors", "base.safetensors"} | text
    assert set(content(muse.folder)) == files
    assert (
        muse.about["pictures"]["flip"] and "base" in weights_of("base", checkpoint=NAME, text=False).popitem()[0] or 1
    )


def test_a_local_folder_of_this_name_goes_first(server, micro_folder, tmp_path):
    server.models[NAME] = dict(main=MORE)
    shutil.copytree(micro_folder, tmp_path / NAME)
    assert find_checkpoint(NAME) == Path(NAME) and not server.asked
    with pytest.raises(ValueError, match="'v1'"):
        mm.Muse.from_pretrained(NAME, revision="v1")


def test_a_revision_is_that_of_the_hub(server, micro_folder, cascade_folder):
    server.models[NAME] = dict(main=content(micro_folder), large=content(cascade_folder))
    assert "superres" in mm.Muse.from_pretrained(NAME, revision="large").configs
    assert "superres" not in mm.Muse.from_pretrained(NAME).configs
    with pytest.raises(FileNotFoundError, match="user/muse.*'v9'"):
        find_checkpoint(NAME, "v9")


@pytest.mark.parametrize("offline", [True, False])
def test_what_was_downloaded_is_used_where_the_hub_cannot_be_reached(server, own_text, monkeypatch, offline):
    from huggingface_hub import constants

    server.models[NAME] = dict(main=content(own_text))
    folder = find_checkpoint(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    move(monkeypatch, "http://127.0.0.1:9")
    assert find_checkpoint(NAME) == folder
    with pytest.raises(FileNotFoundError if offline else ConnectionError, match="user/other"):
        find_checkpoint("user/other")


@pytest.mark.parametrize(
    "why, error", [("missing", FileNotFoundError), ("gated", PermissionError), ("forbidden", PermissionError)]
)
def test_without_access_a_sentence_says_why(server, micro_folder, why, error):
    server.models[NAME], server.refuses[NAME] = dict(main=content(micro_folder)), why
    with pytest.raises(error, match=NAME) as raised:
        mm.Muse.from_pretrained(NAME)
    assert "\n" not in str(raised.value)


def test_another_librarys_model_is_refused_before_its_weights_are_downloaded(server):
    server.models[NAME] = dict(main={"config.json": b'{"model_type": "t5"}', "model.safetensors": bytes(10)})
    with pytest.raises(ValueError, match=NAME):
        mm.Muse.from_pretrained(NAME)
    assert not [path for _, path in server.asked if path.endswith(".safetensors")]
    server.models["user/empty"] = dict(main={"README.md": b""})
    with pytest.raises(FileNotFoundError, match=r"user/empty.*config\.json"):
        mm.Muse.from_pretrained("user/empty")


@pytest.mark.parametrize(
    "name", ["huge", "./a/b", "runs/mine/x", "/no/where", "a/b.safetensors", "../x", "a/..", "a/b "]
)
def test_what_is_no_name_of_the_hub_is_refused_without_asking_it(server, name):
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        mm.Muse.from_pretrained(name)
    assert not server.asked and not hub.is_name(name)


# --- to the Hub -----------------------------------------------------------------------------------------------------


def scores_of(folder: Path, **more) -> dict:
    """As `evaluate generation --json` prints them."""
    result = dict(
        overall=0.25, tasks=dict(one=0.75, two=None), seconds=12345.0, settings=dict(split="val", n=8, seed=3)
    )
    return result | dict(weights=fingerprint_of(folder / "base.safetensors")) | more


def test_what_is_pushed_is_read_again_with_a_card(server, own_text):
    muse = mm.Muse.from_pretrained(own_text)
    address = muse.push_to_hub(NAME, scores=scores_of(own_text), private=True, commit_message="First")
    assert address == f"{server.address}/{NAME}" and server.private == {NAME}
    files = server.models[NAME]["main"]
    card = files.pop("README.md").decode()
    assert files.keys() == content(own_text).keys()
    for part in (f'from_pretrained("{NAME}")', "license: unknown", "0.25", "tasks: one", "0.75", "val", "my-pictures"):
        assert part in card
    assert "12345" not in card and "diffusion" not in card
    assert "/somewhere" not in card + files["config.json"].decode()
    print_of = hashlib.sha256(files["base.safetensors"]).hexdigest()[:12]
    assert print_of in card and "text/model.safetensors" in card
    again = mm.Muse.from_pretrained(NAME)
    assert again.configs == muse.configs and again.sampling == muse.sampling
    assert again.about["trained"]["base"]["steps"] == 70 and again.about["data"] == "my-pictures"
    assert (again.text.encode(["a cat"])[0] == muse.text.encode(["a cat"])[0]).all()


def test_a_branch_is_made_and_a_public_model_does_not_take_what_is_private(server, micro):
    micro.push_to_hub(NAME)
    assert not server.private
    micro.push_to_hub(NAME, revision="v2", license="mit")
    assert server.models[NAME].keys() == {"main", "v2"}
    assert b"license: mit" in server.models[NAME]["v2"]["README.md"]
    assert b"license: apache-2.0" in server.models[NAME]["main"]["README.md"]
    before = len(server.asked)
    with pytest.raises(ValueError, match=f"{NAME}.*public"):
        micro.push_to_hub(NAME, private=True)
    assert not [path for _, path in server.asked[before:] if "/commit/" in path]


@pytest.mark.parametrize("why, error", [("forbidden", PermissionError), ("broken", ConnectionError)])
def test_a_push_that_the_hub_refuses(server, micro, why, error):
    server.refuses[NAME] = why
    with pytest.raises(error) as raised:
        micro.push_to_hub(NAME)
    assert "\n" not in str(raised.value)


def test_a_push_without_the_hub(server, micro, monkeypatch):
    from huggingface_hub import constants

    move(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ConnectionError):
        micro.push_to_hub(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE"):
        micro.push_to_hub(NAME)


def test_wrong_names_scores_and_licenses_are_refused_before_anything_is_sent(server, micro, micro_folder):
    for name in ("muse", "user/muse/x", "../muse", ""):
        with pytest.raises(ValueError, match=re.escape(repr(name))):
            micro.push_to_hub(name)
    for scores in ({}, [], dict(settings=dict(n=4))):
        with pytest.raises(ValueError, match=re.escape(repr(scores))):
            micro.push_to_hub(NAME, scores=scores)
    other = scores_of(micro_folder, weights={"checkpoints/x/base.safetensors": "0123456789ab"})
    with pytest.raises(ValueError, match=r"0123456789ab.*base\.safetensors"):
        micro.push_to_hub(NAME, scores=other)
    with pytest.raises(ValueError, match="'my own'"):
        micro.push_to_hub(NAME, license="my own")
    assert not server.asked


def test_a_card_of_each_kind_of_checkpoint(tiny, cascade):
    stored = json.loads((data_dir() / "results" / "val.json").read_text())
    card = sharing.model_card(tiny, NAME, stored)
    assert "license: apache-2.0" in card and "Noto" in card and "| superres |" in card
    assert f"| overall | {stored['result']['overall']:.4g} |" in card
    assert len(re.findall(r"^(?:import|muse =|images =)", card, re.MULTILINE)) == 3
    plain = sharing.model_card(cascade, NAME)
    assert "No scores" in plain and "does not say" in plain
    import yaml

    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "minimuse" and header["pipeline_tag"] == "text-to-image"


def test_folders_of_this_machine_are_cut():
    given = dict(a=["/x/y", "C:\\x\\y", "~/y/", "user/y", 3], b=dict(c=None))
    assert sharing.without_folders(given) == dict(a=["y", "y", "y", "user/y", 3], b=dict(c=None))


def test_the_command_pushes_with_scores(server, micro_folder, tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(["push", *map(str, arguments)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        return error

    file = tmp_path / "scores.json"
    assert "scores.json" in run(micro_folder, NAME, "--scores", file)
    file.write_text("{")
    assert "scores.json" in run(micro_folder, NAME, "--scores", file)
    assert "'muse'" in run(micro_folder, "muse") and "nowhere" in run("nowhere", NAME)
    assert not server.asked
    file.write_text(json.dumps(scores_of(micro_folder)))
    cli.main(["push", str(micro_folder), NAME, "--scores", str(file), "--private"])
    assert f"{server.address}/{NAME}" in capsys.readouterr().out and server.private == {NAME}
    assert b"0.25" in server.models[NAME]["main"]["README.md"]
