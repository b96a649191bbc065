"""The doctor: every fault that it knows, and that it never raises."""

import importlib.metadata
import re
import subprocess
import sys

import pytest

from minimuse.teach import doctor
from minimuse.teach.doctor import Finding, diagnose, report

REAL = doctor.installed
CPU = dict(backend="cpu", devices=["cpu: cpu"])


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    """No accelerator, no JAX process."""
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(doctor, "probe", lambda: CPU)
    monkeypatch.setattr(doctor, "nvidia_gpu", lambda: False)
    monkeypatch.setattr(doctor, "tpu", lambda: False)


@pytest.fixture
def versions(monkeypatch):
    """Call with name=version to pretend; None is not installed. _ stands for -."""

    def pretend(**pretended):
        table = {name.replace("_", "-"): version for name, version in pretended.items()}
        monkeypatch.setattr(doctor, "installed", lambda name: table[name] if name in table else REAL(name))

    return pretend


def find(name: str) -> Finding:
    return next(finding for finding in diagnose() if finding.name == name)


def names() -> list[str]:
    return [finding.name for finding in diagnose()]


def test_this_machine_is_well_enough():
    findings = {finding.name: finding for finding in diagnose()}
    packages = {"jaxlib", *doctor.bounds()}
    assert packages <= set(findings)
    assert {"Python", "devices", "memory", "disk", "cores", "compilation cache", "data"} <= set(findings)
    assert all(findings[name].level == "ok" for name in ("Python", "data", "devices", *packages))
    assert not {"GPU", "TPU"} & set(findings)


def test_bounds_are_those_of_pyproject(monkeypatch):
    from_metadata = doctor.bounds()

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", missing)
    assert doctor.bounds()["jax"] == "0.7.2"
    assert {"flax", "numpy", "tyro"} <= set(doctor.bounds())
    assert from_metadata == doctor.bounds()


def test_missing_and_old_packages(versions):
    versions(flax=None, datasets="3.6.0", numpy="2.0")
    assert find("flax").level == "fail" and "install" in find("flax").advice
    assert find("datasets").level == "fail" and "4.0" in find("datasets").advice
    assert find("numpy").level == "ok"


def test_without_jax(versions):
    versions(jax=None, jaxlib=None)
    assert find("jax").level == "fail"
    assert "devices" not in names()


def test_a_jax_that_does_not_start(monkeypatch):
    monkeypatch.setattr(doctor, "probe", lambda: dict(error="ImportError: no PJRT"))
    assert find("devices") == Finding("devices", "ImportError: no PJRT", "fail", find("devices").advice)
    assert find("devices").advice


@pytest.mark.parametrize("name", ["jaxlib", "jax_cuda12_plugin", "jax_cuda12_pjrt", "jax_cuda13_plugin"])
def test_parts_of_jax_that_differ(versions, name):
    versions(**dict(jax="0.10.2", jaxlib="0.10.2") | {name: "0.7.2"})
    finding = find(f"jax and {name.replace('_', '-')}")
    assert finding.level == "fail" and finding.value == "0.10.2 and 0.7.2" and name.replace("_", "-") in finding.advice


def test_parts_of_jax_that_agree(versions):
    versions(jax="0.12.0.1", jaxlib="0.12.0", jax_cuda13_plugin="0.12.0")
    assert not [name for name in names() if name.startswith("jax and")]


def test_gpu_that_jax_does_not_show(monkeypatch):
    monkeypatch.setattr(doctor, "nvidia_gpu", lambda: True)
    assert find("GPU").level == "warn" and "[gpu]" in find("GPU").advice
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "JAX_PLATFORMS" in find("GPU").advice
    monkeypatch.setattr(doctor, "probe", lambda: dict(backend="gpu", devices=["gpu: Tesla T4"]))
    assert "GPU" not in names()


def test_tpu_that_jax_does_not_show(monkeypatch, versions):
    monkeypatch.setattr(doctor, "tpu", lambda: True)
    versions(libtpu=None)
    assert find("TPU").level == "warn" and "libtpu" in find("TPU").value and "[tpu]" in find("TPU").advice
    monkeypatch.setattr(doctor, "ON_COLAB", True)
    assert "Runtime >" in find("TPU").advice


def test_libtpu_of_another_jax(versions):
    asked = ['libtpu==0.0.42.*; extra == "tpu"']
    versions(libtpu="0.0.42.1")
    assert doctor.tpu_library(asked) == ""
    versions(libtpu="0.0.21.1")
    assert re.search(r"\b0\.0\.21\.1\b.*\b0\.0\.42\b", doctor.tpu_library(asked))


def test_missing_data(monkeypatch, tmp_path):
    (tmp_path / "sprites.parquet").touch()
    monkeypatch.setenv("MINIMUSE_DATA", str(tmp_path))
    assert find("text encoder").level == find("weights").level == "fail"
    assert "train" in find("weights").advice


def test_cache_that_others_can_write(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert find("compilation cache").level == "ok"
    tmp_path.chmod(0o777)
    assert find("compilation cache").level == "warn" and "chmod" in find("compilation cache").advice


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def _broken():
        raise RuntimeError("oh")

    monkeypatch.setattr(doctor, "CHECKS", (_broken,))
    (finding,) = diagnose()
    assert (
        (finding.name, finding.level) == ("broken", "warn") and "RuntimeError: oh" in finding.value and finding.advice
    )


def test_report_says_levels_in_words():
    text = report([Finding("a", "1"), Finding("bb", "2", "warn", "Look."), Finding("c", "3", "fail", "Act.")])
    assert text.isascii()
    assert text.splitlines()[:2] == ["ok    a   1", "warn  bb  2"]
    assert "-> Act." in text and re.search(r"1 .*\bfail\b.* 1 .*\bwarn\b", text.splitlines()[-1])
    last = report([Finding("a", "1")]).splitlines()[-1]
    assert last and "fail" not in last and "warn" not in last


def test_needs_no_package():
    code = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
    code += "import minimuse.teach.doctor as d; print(d.report(d.diagnose()))"
    root = doctor.Path(doctor.__file__).parents[2]
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stderr
    result = subprocess.run(
        [sys.executable, "-S", "-m", "minimuse", "doctor"], capture_output=True, text=True, cwd=root
    )
    assert result.returncode == 1 and "missing" in result.stdout and not result.stderr
    assert "fail  jax " in result.stdout and "missing" in result.stdout
