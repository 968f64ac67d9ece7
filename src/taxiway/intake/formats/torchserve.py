"""TorchServe's archive: a zip with MAR-INF/MANIFEST.json, a handler and what it loads."""

from __future__ import annotations

from typing import Any, Final

from taxiway.core.errors import MalformedArtifact
from taxiway.intake.formats.files import the_one, zip_member, zip_names
from taxiway.intake.nouns import Format, Staged, Understanding
from taxiway.intake.read.documents import json_or

_MANIFEST: Final = "MAR-INF/MANIFEST.json"
_OWN_HANDLERS: Final = frozenset(
    {"image_classifier", "image_segmenter", "object_detector", "text_classifier", "base_handler"}
)


def _recognise(staged: Staged) -> bool:
    return _MANIFEST in zip_names(staged)


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    names = zip_names(staged)
    manifest = json_or(zip_member(file, _MANIFEST), {})
    model: Any = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("handler"), str):
        raise MalformedArtifact(
            f"{file.path}!{_MANIFEST} names no handler",
            hint="pack it again: torch-model-archiver --handler HANDLER ...",
            file=file.path,
            rule="mar-handler",
        )
    handler = model["handler"]
    source = handler.partition(":")[0]
    if source not in _OWN_HANDLERS and f"{source.removesuffix('.py')}.py" not in names:
        raise MalformedArtifact(
            f"{file.path} names the handler {handler!r}, which is not in it",
            hint="pack it again: torch-model-archiver --handler HANDLER ...",
            file=file.path,
            rule="mar-handler",
        )
    return (
        Understanding(
            name=str(model.get("modelName", "")),
            format="torchserve",
            framework="torchserve",
            backend="torchserve",
            files={"@/model.mar": file.path},
            facts={
                "handler": handler,
                "serialized_file": model.get("serializedFile", ""),
                "model_version": str(model.get("modelVersion", "")),
                "archiver_version": str(manifest.get("archiverVersion", "")),
                "members": len(names),
            },
            notes=(f"runs its own Python code: handler {handler}",),
        ),
    )


TORCHSERVE = Format("torchserve", "TorchServe archive", _recognise, _understand)
