"""Weights of language models and engines: GGUF, and TensorRT plans."""

from __future__ import annotations

from typing import Any

from taxiway.intake.formats.files import one_of_kind, the_one
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, Understanding
from taxiway.intake.read.gguf import GgufFile, read_gguf
from taxiway.intake.scan.content import Kind


def _is_gguf(staged: Staged) -> bool:
    return one_of_kind(staged, Kind.GGUF) is not None


def _understand_gguf(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    with file.mapped() as data:
        found = read_gguf(data, file.path, DEFAULT_LIMITS)
    return (
        Understanding(
            format="gguf",
            framework="gguf",
            version=str(found.version),
            backend="llama",
            files={"@/model.gguf": file.path},
            facts=_gguf_facts(found),
            notes=("GGUF is not served yet: it is kept and can be told apart",),
            servable=False,
        ),
    )


def _gguf_facts(found: GgufFile) -> dict[str, Any]:
    meta = found.metadata
    architecture = str(meta.get("general.architecture", ""))
    return {
        "architecture": architecture,
        "model_name": str(meta.get("general.name", "")),
        "parameters": found.parameters,
        "tensors": found.tensors,
        "tensor_types": dict(found.types),
        "context_length": meta.get(f"{architecture}.context_length"),
        "embedding_length": meta.get(f"{architecture}.embedding_length"),
        "blocks": meta.get(f"{architecture}.block_count"),
        "tokenizer": meta.get("tokenizer.ggml.model"),
    }


def _is_plan(staged: Staged) -> bool:
    return one_of_kind(staged, Kind.PLAN) is not None


def _understand_plan(staged: Staged) -> tuple[Understanding, ...]:
    return (
        Understanding(
            format="tensorrt",
            framework="tensorrt",
            backend="tensorrt",
            platform="tensorrt_plan",
            files={"@/model.plan": the_one(staged).path},
            notes=("a TensorRT plan can only be served where it was built: the same GPU, the same TensorRT",),
            servable=False,
        ),
    )


GGUF = Format("gguf", "GGUF", _is_gguf, _understand_gguf)
PLAN = Format("tensorrt", "TensorRT plan", _is_plan, _understand_plan)
