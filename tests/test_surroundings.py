"""What JAX, the system and the terminal do around minimuse: settings, absent devices, forks, threads, Ctrl-C."""

import io
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from conftest import STEPS
from PIL import Image

import minimuse
from minimuse import canvas, config, layers, processes
from minimuse.config import RunConfig, TrainConfig
from minimuse.data.pixels import read_picture
from minimuse.presets import get_preset
from minimuse.teach import doctor, figures
from minimuse.train.loop import Job, fit

DRAWN = dict(seed=3, steps=STEPS)  # with programs that other tests use, too


def run(code: str, **variables: str) -> subprocess.CompletedProcess:
    """Python code in a process of its own."""
    words = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, timeout=120)


# --- settings of JAX --------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(micro):
    """Within it, JAX computes in 64 bits where nothing else is said."""
    del micro  # which is loaded before
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, dict(order="random", revise=1, guidance=0.0)])
def test_64_bits_draw_the_same(micro, options, request):
    ways = (
        lambda: micro.generate("a cat", **DRAWN, **options),
        lambda: micro.inpaint(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool), "a cat", **DRAWN, **options),
        lambda: micro.edit(np.zeros((64, 64, 3), np.uint8), "a cat", iterations=2, way="resample"),
    )
    before = [way() for way in ways]
    request.getfixturevalue("wide")
    for way, expected in zip(ways, before):
        np.testing.assert_array_equal(way(), expected)


def test_64_bits_are_refused_for_training(wide, tmp_path):
    job = Job(dict(a=np.ones(2, np.float32)), lambda state, batch: (state, {}), lambda step: {})
    with pytest.raises(ValueError, match="JAX_ENABLE_X64"):
        fit(job, TrainConfig(steps=1, batch=1), RunConfig(), tmp_path)


@pytest.mark.parametrize(
    "setting, name",
    [
        (jax.numpy_rank_promotion("raise"), "JAX_NUMPY_RANK_PROMOTION"),
        (jax.numpy_dtype_promotion("strict"), "JAX_NUMPY_DTYPE_PROMOTION"),
        (jax.transfer_guard("disallow"), "JAX_TRANSFER_GUARD"),
    ],
)
def test_settings_that_flax_does_not_take_are_named(micro, micro_folder, setting, name):
    uses = (
        lambda: micro.generate("a cat"),
        lambda: micro.tokenize(np.zeros((1, 64, 64, 3), np.uint8)),
        lambda: minimuse.Muse.from_pretrained(micro_folder),
        lambda: minimuse.TextEncoder.from_pretrained(),
    )
    with setting:
        for use in uses:
            with pytest.raises(ValueError, match=name):
                use()


def test_an_absent_backend_is_one_sentence_that_names_the_variable():
    code = "import sys; sys.argv[1:] = ['generate', 'a cat']; from minimuse.__main__ import main; main()"
    done = run(code, JAX_PLATFORMS="nonsense")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "JAX_PLATFORMS" in done.stderr and "nonsense" in done.stderr


def test_the_doctor_names_what_is_set(monkeypatch):
    monkeypatch.setattr(doctor, "probe", lambda: dict(error="AssertionError"))
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("JAX_NUMPY_RANK_PROMOTION", "raise")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    findings = {finding.name: finding for finding in (*doctor._devices(), *doctor._settings())}
    assert findings["devices"].level == "fail" and "JAX_PLATFORMS is cuda" in findings["devices"].advice
    assert findings["JAX_NUMPY_RANK_PROMOTION"].level == "fail" and findings["JAX_ENABLE_X64"].level == "warn"


# --- processes and threads --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told_so_instead_of_waiting_for_ever(micro, tmp_path):
    micro.prompts("a cat")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python 3.12 also warn
        child = os.fork()
    if not child:
        try:
            micro.generate("a cat")
        except RuntimeError as error:
            (tmp_path / "said").write_text(str(error))
        finally:
            os._exit(0)
    end = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    assert "spawn" in (tmp_path / "said").read_text()


def test_threads_draw_what_one_draws(micro):
    captions = [f"{n} cats" for n in ("two", "three", "four", "five")]
    alone = [micro.generate(caption, **DRAWN) for caption in captions]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = list(pool.map(lambda caption: micro.generate(caption, **DRAWN), captions))
            np.testing.assert_array_equal(together, alone)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

STAND_IN = """
import signal, sys, time, types

signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may run in the background, where it is ignored

def interrupt():
    signal.raise_signal(signal.SIGINT)
    for _ in range(100):
        pass

class Callback:
    def __del__(self):
        interrupt()

def in_a_callback():
    Callback()  # Python forgets an exception there
    time.sleep(30)

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "minimuse.cli":
            try:
                interrupt()
            except BaseException:  # as extension modules do
                pass

cli = types.ModuleType("minimuse.cli")
"""


@pytest.mark.parametrize(
    "code",
    [
        "sys.meta_path.insert(0, Finder)",
        "cli.main = in_a_callback; sys.modules['minimuse.cli'] = cli",
        "cli.main = interrupt; sys.modules['minimuse.cli'] = cli",
    ],
    ids=["import", "callback", "command"],
)
def test_ctrl_c_ends_with_130_at_any_moment(code):
    begun = time.monotonic()
    done = run(f"{STAND_IN}\n{code}\nfrom minimuse.__main__ import main\nmain()")
    assert done.returncode == 130 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    assert time.monotonic() - begun < 25


# --- what is printed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n    sys.exit(0)"], ids=["returns", "exits"])
@pytest.mark.parametrize("much", [1, 10**6], ids=["a line", "more than a pipe holds"])
def test_a_closed_pipe_ends_it_without_a_word(much, end):
    """As `minimuse ... | head -1` closes it."""
    code = f"""
import sys, types
def command():
    sys.stdin.read()
    print("a line\\n" * {much}){end}
cli = types.ModuleType("minimuse.cli")
cli.main = command
sys.modules["minimuse.cli"] = cli
from minimuse.__main__ import main
main()
"""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes, text=True) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == "" and process.wait(120) == 141


# --- the compilation cache --------------------------------------------------------------------------------------------

PROGRAM = """
import jax, minimuse
minimuse.enable_compilation_cache()
print(jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(3)))
"""


@pytest.mark.slow
def test_a_damaged_compilation_cache_is_repaired_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    first = run(PROGRAM)
    whole = {path: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert whole and doctor.CHECKS and all(map(doctor.unpacks, whole))
    for path, stored in whole.items():
        path.write_bytes(stored[: len(stored) // 2])
    assert "damaged" in [*doctor._cache()][0].value
    second, third = run(PROGRAM), run(PROGRAM)
    assert first.stdout == second.stdout == third.stdout
    assert "damaged" in second.stderr and "Warning" not in second.stderr and "damaged" not in third.stderr
    assert {path for path in whole if doctor.unpacks(path)} == set(whole)


def test_without_a_home_there_is_no_cache_and_no_folder_of_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user that the system does not know
    assert minimuse.enable_compilation_cache() == ""
    assert [*doctor._cache()][0].level == "warn" and not list(tmp_path.iterdir())


def test_other_warnings_are_shown_as_before(tmp_path):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        (tmp_path / "jit_f-1-cache").touch()
        (tmp_path / "jit_fg-1-cache").touch()
        processes.repair_cache(str(tmp_path))
        warnings.warn("another", stacklevel=1)
        warnings.warn("Error reading persistent compilation cache entry for 'jit_f': x", stacklevel=1)
    assert shown == ["another"] and [path.name for path in tmp_path.iterdir()] == ["jit_fg-1-cache"]


# --- tokens, arrays, names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens, message",
    [
        (np.full((1, 8, 8), 64), r"\b64 \(\[MASK\]\)"),
        (np.full((1, 8, 8), -1), r"-1\b"),
        (np.full((1, 8, 8), 2**40), str(2**40)),
        (np.full((1, 8, 8), 2**63, np.uint64), str(2**63)),
        (np.zeros((1, 8, 8)), "float64"),
        (np.zeros((1, 8, 8), bool), "bool"),
        (np.zeros((1, 63), int), r"\[1, 63\]"),
        (np.zeros(64, int), r"\[64\]"),
        (np.zeros((1, 0, 8), int), r"\[1, 0, 8\]"),
        (None, "object"),
        ([[1], [1, 2]], "object"),
    ],
)
def test_tokens_that_no_code_has_are_refused(micro, tokens, message):
    with pytest.raises(ValueError, match=message):
        micro.detokenize(tokens)


@pytest.mark.parametrize("name", [None, 5, ["tiny"], b"tiny", ""])
def test_what_is_not_a_name_is_refused(micro, name):
    for use in (minimuse.Muse.from_pretrained, minimuse.TextEncoder.from_pretrained, micro.with_style):
        with pytest.raises(ValueError, match="string or a path"):
            use(name)
    for use in (get_preset, lambda stage: micro.detokenize(np.zeros((1, 8, 8), int), stage)):
        with pytest.raises(ValueError, match="There is no"):
            use(name)


def test_masked_arrays_and_ragged_lists_are_refused():
    hidden = np.ma.masked_array(np.ones((4, 4), bool), mask=np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match="A mask.*masked array"):
        canvas.to_mask(hidden, (4, 4))
    assert canvas.to_mask(np.ma.masked_array(np.ones((4, 4), bool)), (4, 4)).all()  # nothing is left out
    with pytest.raises(ValueError, match="An image.*masked array"):
        canvas.to_pixels(np.ma.masked_array(np.zeros((4, 4, 3), np.uint8), mask=True))
    with pytest.raises(ValueError, match="An image"):
        canvas.to_pixels([[1], [1, 2]])


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cls, values, message",
    [
        (config.TransformerConfig, dict(window=-2), r"\bwindow\b.*-2\b"),
        (config.TransformerConfig, dict(grid=[8, 0]), r"\bgrid\b.*\b0\b"),
        (config.SuperresConfig, dict(low_depth=3000), r"\blow_depth\b.*\b3000\b"),
        (config.VQGANConfig, dict(blocks=3000), r"\bblocks\b.*\b3000\b"),
        (config.VQGANConfig, dict(channels=[8, -8]), r"\bchannels\b.*-8\b"),
        (config.T5Config, dict(layer_norm_epsilon=float("nan")), r"\blayer_norm_epsilon\b.*\bnan\b"),
        (config.T5Config, dict(d_model=0), r"\bd_model\b.*\b0\b"),
        (config.T5Config, dict(relative_attention_num_buckets=2), r"\brelative_attention_num_buckets\b.*\b2\b"),
    ],
)
def test_sizes_that_no_model_has_are_refused(cls, values, message):
    known = dict(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2) if cls is config.T5Config else {}
    with pytest.raises(ValueError, match=message):
        made = config.from_dict(cls, known | values)  # which refuses those of T5 already
        made.check()


def test_flash_attention_without_a_gpu_is_named():
    with pytest.raises(ValueError, match="cudnn"):
        layers.attend(*np.zeros((3, 1, 4, 2, 8), np.float32), how="cudnn")


# --- pictures ---------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: int, end: bool = True) -> bytes:
    """A PNG that says it is width x height pixels, and holds this many rows."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\7" * 3 * width) * rows))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + (chunk(b"IEND", b"") if end else b"")


@pytest.mark.parametrize(
    "content, message",
    [
        (png(64, 64, 10), "cut"),
        (png(64, 64, 64, end=False), "cut"),
        (png(13_000, 13_000, 1), "13000 x 13000"),
        (b"", "empty"),
    ],
)
def test_a_cut_or_huge_png_is_refused(content, message, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.png.*{message}"):
        read_picture(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 64)])
def test_whole_pngs_of_every_mode_are_read(mode, size, tmp_path):
    Image.new(mode, size).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").size == size


def test_an_interlaced_png_is_read_and_a_cut_one_refused(tmp_path):
    """The smallest one: 2 x 1 pixels in two passes of one pixel each."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 1))
    for rows, whole in ((b"\0\5\0\7", True), (b"\0\5", False)):
        data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(data)
        if whole:
            assert np.asarray(read_picture(tmp_path / "a.png")).tolist() == [[5, 7]]
        else:
            with pytest.raises(ValueError, match="cut"):
                read_picture(tmp_path / "a.png")


def test_a_dollar_in_a_caption_is_no_formula():
    figure = figures.image_grid(np.zeros((2, 8, 8, 3), np.uint8), ["a $5 cat", "$x_{$"])
    file = io.BytesIO()
    figure.savefig(file)
    assert file.tell()
