"""What a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from medkeras import version

LIBRARIES = ("tensorflow", "ai-edge-litert", "onnxruntime", "numpy")
INSTRUCTIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimdhp": "NEON FP16",
    "asimddp": "NEON dotprod",
    "i8mm": "NEON I8MM",
    "sve": "SVE",
    "sve2": "SVE2",
}
"""What the system calls an instruction set, and what people do: those that networks are faster by."""

_CPUINFO = "/proc/cpuinfo"
_GIB = 2**30


def describe() -> dict[str, Any]:
    """Returns processors and their instruction sets, memory, system and the libraries' versions, ready for JSON."""
    text = _cpuinfo()
    return {
        "processor": processor(text) or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "processors": processors(),
        "instructions": instructions(text),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {"medkeras": version.VERSION} | {name: _version(name) for name in LIBRARIES if _version(name)},
    }


def processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor(cpuinfo: str) -> str:
    """Returns the name in what Linux says of its processors, or nothing: ARM gives it where the board is named."""
    fields = _fields(cpuinfo)
    return next((fields[name] for name in ("model name", "Model", "Hardware") if fields.get(name)), "")


def instructions(cpuinfo: str) -> list[str]:
    """Returns which of `INSTRUCTIONS` the processor has, by what Linux says of it."""
    fields = _fields(cpuinfo)
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    return [name for flag, name in INSTRUCTIONS.items() if flag in flags]


def _cpuinfo() -> str:
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _fields(cpuinfo: str) -> dict[str, str]:
    """Returns name and value of each line, those of the first processor."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
