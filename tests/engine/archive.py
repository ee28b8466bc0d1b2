"""Images for tests, made of programs of this machine and the libraries they load."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlpkg.digest import sha256
from mlpkg.layer import Bytes, Entry, SourceFile, tar_stream


def docker_archive(
    programs: Mapping[str, Path], config: Mapping[str, Any], *, extra: bytes = b"", name: str | None = None
) -> tuple[str, Iterator[bytes]]:
    """The config's digest and the tar that `docker load` takes; `programs` by their path in the image."""
    files = {**programs, **{str(path)[1:]: path for path in _libraries(list(programs.values()))}}
    entries = [
        Entry(target, mode=0o755, content=SourceFile(path.resolve(), path.stat().st_size))
        for target, path in files.items()
    ]
    if extra:
        entries.append(Entry("extra", content=Bytes(extra)))
    layer = b"".join(tar_stream(entries))
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
    }
    text = json.dumps(image).encode()
    blobs = {f"blobs/sha256/{sha256(data)[7:]}": data for data in (text, layer)}
    manifest = [
        {"Config": next(iter(blobs)), "RepoTags": [name] if name else None, "Layers": list(blobs)[1:]}
    ]
    members = {"manifest.json": json.dumps(manifest).encode(), **blobs}
    return sha256(text), tar_stream(Entry(path, content=Bytes(data)) for path, data in members.items())


def _libraries(programs: list[Path]) -> list[Path]:
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in sorted(set(re.findall(r"(/\S+) \(0x", said)))]
