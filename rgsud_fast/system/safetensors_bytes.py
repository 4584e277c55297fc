"""Files of weights whose bytes depend on what is in them alone, so that equal ones have equal hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

_LENGTH = 8  # bytes that tell how long the header is, which they also align


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as a safetensors file, with what is told of them in the order of its names.

    safetensors writes metadata in an order that differs from call to call, and up to 0.4 beside a file's braces where
    it holds no tensor: what is told is added here.

    Args:
        tensors: by name; contiguous, on the CPU, none of which shares memory with another.
        metadata: of the file.

    Returns:
        The file's bytes.
    """
    written = save(dict(tensors))
    if not metadata:
        return written
    end = _LENGTH + int.from_bytes(written[:_LENGTH], "little")
    header = {"__metadata__": dict(sorted(metadata.items()))} | json.loads(written[_LENGTH:end])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    return b"".join((len(text).to_bytes(_LENGTH, "little"), text, memoryview(written)[end:]))
