"""ONNX in place of a framework's own model, where `convert` proves them alike; the original stays with it.

And `convert` for a file that nobody has looked at: `to_onnx_scanned`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from taxiway.config.backends import ONNX
from taxiway.convert import Converted, NotConverted, Reason, Request, check_places, to_onnx
from taxiway.convert.isolation import unwinding
from taxiway.convert.outcome import Outcome
from taxiway.convert.sources import Kind, kind_of
from taxiway.core.errors import InvalidArgument, InvalidModel, UntrustedPickle
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import the_one, zip_names
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import MadeFrom, Staged, StagedFile, Understanding
from taxiway.intake.scan.torch_archives import EXPORT, SCRIPT, layout_of
from taxiway.intake.scan.walk import scan
from taxiway.intake.staging import stage

CONVERTIBLE: Final = ("sklearn", "xgboost", "lightgbm", "catboost")
"""Backends whose models are."""

_ORIGINALS: Final = "@/original/"
_SAID_AT_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class OnnxConverter:
    """Converts a model of one file.

    Attributes:
        samples: rows to compare on; None: they are made from the model.
    """

    samples: Path | None = None

    def __call__(self, model: Understanding, staged: Staged, trusted: frozenset[str]) -> Understanding:
        """The converted model, or the same with the reason why not.

        Raises:
            InvalidArgument: the samples are none that the model takes.
            UntrustedPickle: its library would build what nobody vouched for; it would not be served either.
        """
        if len(model.files) != 1:
            return not_converted(model, Reason.UNSUPPORTED.value, "it is not a model of one file")
        ((place, path),) = model.files.items()
        file = staged.files[path]
        with tempfile.TemporaryDirectory(dir=staged.root.parent, prefix="converting-") as folder:
            source, target = Path(folder, Path(place).name), Path(folder, "converted.onnx")
            source.hardlink_to(file.at)  # under the name that its format has: the source may be called anything
            outcome = to_onnx(
                Request(
                    source=str(source),
                    target=str(target),
                    samples=None if self.samples is None else str(self.samples),
                    trusted_digest=file.sha256 if file.digest in trusted else None,
                )
            )
            if isinstance(outcome, Converted):
                return _converted(model, file, outcome, target.read_bytes())
        return _refused(model, file, outcome)


def _converted(model: Understanding, file: StagedFile, outcome: Converted, onnx: bytes) -> Understanding:
    rows = {"rows": outcome.parity.rows, "worst_relative_error": outcome.parity.worst_relative_error}
    return replace(
        model,
        backend=ONNX.name,
        platform="",
        version=model.version or _version_of(outcome),
        inputs=tuple(_spec(*msgspec.structs.astuple(one)) for one in outcome.inputs),
        outputs=tuple(_spec(*msgspec.structs.astuple(one)) for one in outcome.outputs),
        files={f"{_ORIGINALS}{file.name}": file.path},
        made={"@/model.onnx": onnx},
        notes=(),  # they were about the file that is not what is served
        conversion=msgspec.to_builtins(msgspec.structs.replace(outcome, target="@/model.onnx")),
        made_from=(MadeFrom(file.digest, {"file": file.name, "converter": outcome.converter, **rows}),),
    )


def _version_of(outcome: Converted) -> str:
    """The framework's own, among those of all libraries."""
    names = {"sklearn": "scikit-learn"}
    named = (outcome.framework, names.get(outcome.framework, ""), f"{outcome.framework}-cpu")
    return next((outcome.versions[name] for name in named if name in outcome.versions), "")


def _spec(name: str, datatype: str, shape: tuple[int, ...]) -> TensorSpec:
    known = Datatype.by_name(datatype)
    assert known is not None, "what the runtime that loaded it calls it"  # noqa: S101 - a broken promise of ours
    return TensorSpec(name, known, shape)


def _refused(model: Understanding, file: StagedFile, outcome: NotConverted) -> Understanding:
    if outcome.reason is Reason.UNTRUSTED:
        raise UntrustedPickle(
            f"{file.path}: {outcome.message}",
            hint=f"if you made this file yourself, say --trust {file.digest}",
            file=file.path,
            rule="untrusted",
            digest=file.digest,
        )
    if outcome.reason is Reason.BAD_SAMPLES:
        raise InvalidArgument(
            outcome.message,
            hint=outcome.hint or "give rows of the model's own features, as .npy, .npz or .csv; or leave --samples out",
        )
    hint = f"; {outcome.hint}" if outcome.reason is Reason.LIBRARY_MISSING else ""
    return not_converted(
        model, outcome.reason.value, outcome.message[:_SAID_AT_MOST] + hint, msgspec.to_builtins(outcome)
    )


def not_converted(
    model: Understanding, reason: str, message: str, told: dict[str, object] | None = None
) -> Understanding:
    """The same model, and why its own library serves it; `told` is the whole verdict."""
    return replace(model, conversion={"type": "not-converted", **(told or {}), "reason": reason, "message": message})


def is_converted(model: Understanding) -> bool:
    """Whether what is served was made from what was imported."""
    return model.conversion.get("type") == "converted"


# --- files that nobody has looked at -------------------------------------------------------------------


def to_onnx_scanned(request: Request) -> Outcome:
    """`to_onnx`, which has no reader for files of torch that runs nothing: they are scanned first, as by an import.

    The private copy that is scanned lies beside the target meanwhile; what is converted has its digest, or is refused.

    Raises:
        NotFound: as `to_onnx` does.
        UnsafeArtifact: as an import of the file would; it is not read then.
        InvalidModel: its name says another form of torch's than its bytes.
    """
    check_places(request)
    if kind_of(request.source) is not Kind.TORCH:
        return to_onnx(request)
    place = Path(request.target).resolve().parent
    with unwinding(), tempfile.TemporaryDirectory(prefix=".scanning-", dir=place) as folder:
        staged = stage(Path(request.source), Path(folder), DEFAULT_LIMITS, lambda _file: frozenset())
        file = the_one(staged)
        trusted = {f"sha256:{request.trusted_digest.lower().removeprefix('sha256:')}"} if request.trusted_digest else ()
        scan(staged, frozenset(), frozenset(trusted), DEFAULT_LIMITS)
        if file.digest not in trusted:
            _check_form(staged, file)
    return to_onnx(msgspec.structs.replace(request, scanned_digest=file.sha256))


def _check_form(staged: Staged, file: StagedFile) -> None:
    """See that torch will read the file as what it was scanned as: which of its readers does, the name says.

    Raises:
        InvalidModel: it would not.
    """
    wanted = EXPORT if file.name.endswith(".pt2") else SCRIPT
    found = layout_of(zip_names(staged))
    if found is wanted:
        return
    what = "neither an exported program nor TorchScript" if found is None else f"no {wanted.name}, but {found.name}"
    raise InvalidModel(
        f"{file.name} is {what}, by its bytes",
        hint="save an exported program as .pt2 (torch.export.save), and TorchScript as .pt (torch.jit.save)",
    )
