"""Writes THIRD_PARTY_LICENSES: every crate that is linked into the wheel, with its version and licence. Needs cargo."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> None:
    target = "x86_64-unknown-linux-gnu"
    metadata = json.loads(
        subprocess.run(  # noqa: S603
            ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],  # noqa: S607
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    # Normal dependencies only: build scripts and macros are not linked in, but what a macro crate expands to is ours.
    todo, linked = [metadata["resolve"]["root"]], set[str]()
    while todo:
        node = nodes[todo.pop()]
        for dependency in node["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in linked:
                linked.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    lines = [
        "Crates linked into acgs1_kernel, from cargo metadata. Their licence texts are in the crates' own sources.",
        "",
    ]
    found = sorted(
        (packages[p]["name"], packages[p]["version"], packages[p]["license"] or "see the crate") for p in linked
    )
    lines += [f"{name} {version}: {licence}" for name, version, licence in found]
    (ROOT / "THIRD_PARTY_LICENSES").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
