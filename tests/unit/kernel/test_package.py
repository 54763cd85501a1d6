"""The package: what is shipped is of these sources, and its types say what it has."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import acgs1_kernel as kernel
import pytest

NATIVE = Path(__file__).parents[3] / "native"


@pytest.fixture
def source_hash() -> ModuleType:
    spec = importlib.util.spec_from_file_location("source_hash", NATIVE / "source_hash.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_wheel_is_of_these_sources(source_hash: ModuleType) -> None:
    assert source_hash.problems() == []


def test_the_installed_kernel_is_of_these_sources(source_hash: ModuleType) -> None:
    assert source_hash.source_sha256() == kernel.SOURCE_SHA256


def test_the_shipped_wheel_names_no_directory_of_the_machine_that_built_it() -> None:
    (path,) = (NATIVE / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            content = wheel.read(name)
            for trace in (b"file://", b"/.cargo/registry", str(Path.home()).encode() + b"/", str(NATIVE).encode()):
                assert trace not in content, name


def test_a_changed_source_is_noticed(source_hash: ModuleType, tmp_path: Path) -> None:
    for name in ("src", "python", "dist"):
        shutil.copytree(NATIVE / name, tmp_path / name)
    for name in source_hash.SINGLE:
        shutil.copy(NATIVE / name, tmp_path / name)
    assert source_hash.problems(tmp_path) == []
    with (tmp_path / "src" / "slicing.rs").open("a") as file:
        file.write("// changed\n")
    assert len(source_hash.problems(tmp_path)) == 1


def test_one_cedar_version_serves_decisions_and_proofs() -> None:
    lock = (NATIVE / "Cargo.lock").read_text()
    for name, version in (("cedar-policy", kernel.CEDAR_SDK_VERSION), ("cedar-policy-symcc", kernel.SYMCC_VERSION)):
        assert re.findall(rf'name = "{name}"\nversion = "(.*)"', lock) == [version]
    assert re.findall(r'name = "cedar-policy-core"\nversion = "(.*)"', lock) == [kernel.CEDAR_SDK_VERSION]


def _stub() -> ast.Module:
    return ast.parse((NATIVE / "python" / "acgs1_kernel" / "__init__.pyi").read_text())


def _names(body: list[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_the_type_stub_names_what_the_package_exports() -> None:
    aliases = {"Kind", "Uid", "RequestEnv"}
    assert _names(_stub().body) - aliases == set(kernel.__all__)


def test_the_type_stub_names_every_member_of_every_class() -> None:
    for node in _stub().body:
        if not isinstance(node, ast.ClassDef) or node.name.endswith("Error"):
            continue
        real = {name for name in vars(getattr(kernel, node.name)) if not name.startswith("__")}
        written = {name for name in _names(node.body) if not name.startswith("__")}
        assert written == real, node.name


def test_the_kinds_of_the_stub_are_those_of_the_prover() -> None:
    kind = next(n for n in _stub().body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "Kind")
    assert isinstance(kind.value, ast.Subscript)
    assert list(ast.literal_eval(kind.value.slice)) == kernel.KINDS


@pytest.mark.rust
@pytest.mark.slow
def test_the_sources_pass_the_rust_lints() -> None:
    if shutil.which("cargo") is None or shutil.which("cargo-clippy") is None:
        pytest.skip("cargo clippy is not installed")
    done = subprocess.run(
        [NATIVE / "check.sh"],
        capture_output=True,
        text=True,
        env=os.environ | {"CARGO_TERM_COLOR": "never"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
