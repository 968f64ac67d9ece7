"""The walk of a foreign model: recognise, scan, understand, verify, hash, register."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from taxiway.core.errors import (
    AlreadyExists,
    AlreadyRegistered,
    ArtifactChanged,
    InvalidArgument,
    ScanFailed,
    TaxiwayError,
    UnrecognisedModel,
)
from taxiway.core.refs import ModelRef
from taxiway.core.tensors import TensorSpec
from taxiway.intake.converting import not_converted
from taxiway.intake.formats.onnx import external_files, is_onnx
from taxiway.intake.formats.table import recognise
from taxiway.intake.limits import DEFAULT_LIMITS, Limits
from taxiway.intake.naming import check_said, checked_name, model_name
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.scan.walk import Scanned, scan
from taxiway.intake.serving_config import write_config
from taxiway.intake.signing import SignatureState, verify_signature
from taxiway.intake.sources import Bring, Brought, choose_source
from taxiway.intake.staging import stage
from taxiway.registry.disk import make_private
from taxiway.registry.nouns import (
    ANY,
    AliasMove,
    Edge,
    EdgeKind,
    Expected,
    FileEntry,
    Manifest,
    NewVersion,
    StoredFile,
    Version,
)

CONFIG_FILE = "config.pbtxt"
_MAX_SAID = 400


class Shelf(Protocol):
    """What an import needs of a registry."""

    def put_file(self, path: Path) -> StoredFile:
        """Keep a file's bytes."""

    def put_bytes(self, data: bytes) -> StoredFile:
        """Keep bytes."""

    def register(self, new: NewVersion, *, actor: str, why: str, idempotency_key: str | None = None) -> Version:
        """Make it the next version of its model."""

    def resolve(self, ref: ModelRef | str) -> Version:
        """What a reference means now."""

    def add_lineage(
        self, child: ModelRef | str, kind: EdgeKind, parent: str, *, actor: str, facts: Mapping[str, Any] | None = None
    ) -> Edge:
        """Record what a version came from."""

    def set_alias(self, name: str, alias: str, to: int | None, *, expect: Expected, actor: str, why: str) -> AliasMove:
        """Move an alias."""


class Converter(Protocol):
    """Makes another model of one that was understood, as a tree ensemble becomes ONNX; another room's work."""

    def __call__(self, model: Understanding, staged: Staged, trusted: frozenset[str]) -> Understanding:
        """The converted model, or the same with the reason why not; `trusted` digests are of files that may be run."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What whoever imports says.

    Attributes:
        source: a path, or a URI of a scheme that somebody brings.
        name: of the model; empty: as it is called where it comes from.
        trust: digests of files whose pickles pass.
        inputs, outputs: what the bytes do not tell; they win over what was read.
        alias: to move to the version.
        why: the reason, for the audit log.
        require_signature, public_keys: as in `verify_signature`.
    """

    source: str
    name: str = ""
    trust: frozenset[str] = frozenset()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    alias: str = ""
    why: str = ""
    actor: str = ""
    require_signature: bool = False
    public_keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """One model as it was taken in.

    Attributes:
        files: of its manifest, whose `digest` is the version's.
        origin: where it came from.
        version: None after a dry run; not `is_new` if it was there before.
        left_out: files of the source that no model was made of.
        alias_ref: `name@alias`, if an alias was moved to the version.
        trained_by: as in `Brought`.
    """

    name: str
    model: Understanding
    title: str
    config: str
    files: tuple[FileEntry, ...]
    digest: str
    scanned: Scanned
    signature: SignatureState
    origin: Mapping[str, Any]
    version: Version | None = None
    is_new: bool = True
    left_out: tuple[str, ...] = ()
    alias_ref: str = ""
    trained_by: str = ""


@dataclass(frozen=True, slots=True)
class Office:
    """What an import works with.

    Attributes:
        workplace: a directory for private copies; it needs as much room as the model.
        schemes: who brings the models of a URI.
        converters: by the backend that would serve the model as it is.
        tell: hears what is done now, in a few words.
    """

    workplace: Path
    limits: Limits = DEFAULT_LIMITS
    schemes: Mapping[str, Bring] = field(default_factory=dict)
    converters: Mapping[str, Converter] = field(default_factory=dict)
    tell: Callable[[str], object] = lambda _doing: None


def import_models(wanted: Wanted, office: Office, shelf: Shelf | None) -> tuple[Imported, ...]:
    """Take in every model of a source: one, mostly; each of a Triton repository.

    Args:
        wanted: what is to be imported, and how.
        office: where and by what means.
        shelf: the registry; None: everything but the registration.

    Raises:
        UnrecognisedModel, UnsafeArtifact: a refusal; nothing was registered.
        AlreadyRegistered: the registry has exactly these files as a version of this model.
    """
    check_said(wanted.name, wanted.alias)
    office.tell(f"reading {wanted.source}")
    with choose_source(wanted.source, office.schemes)(wanted.source) as brought, _staged(brought, office) as staged:
        office.tell("scanning")
        with _boundary(staged):
            format_, scanned = _look(staged, wanted, office.limits)
            models = format_.understand(staged)
        signature = verify_signature(staged, wanted.public_keys, required=wanted.require_signature)
        prepared = [
            _prepare(_completed(model, wanted, staged, office), wanted, brought, staged, format_, scanned, signature)
            for model in models
        ]
        _check_names(prepared, wanted)
        prepared = [replace(one, left_out=_left_out(staged, models)) for one in prepared]
        if shelf is None:
            return tuple(prepared)
        office.tell("registering")
        if len(prepared) == 1:
            return (_register(prepared[0], staged, wanted, shelf),)
        return tuple(_register_or_find(one, staged, wanted, shelf) for one in prepared)


@contextmanager
def _staged(brought: Brought, office: Office) -> Iterator[Staged]:
    if office.workplace.resolve().is_relative_to(brought.path.resolve()):
        raise InvalidArgument(
            f"{brought.path} holds {office.workplace}, where models are copied to while they are looked at",
            hint="name the model's own directory",
        )
    office.workplace.mkdir(parents=True, exist_ok=True)
    make_private(office.workplace)
    with tempfile.TemporaryDirectory(dir=office.workplace, prefix="import-") as directory:
        yield stage(brought.path, Path(directory), office.limits, _companions)


@contextmanager
def _boundary(staged: Staged) -> Iterator[None]:
    """Whatever else a foreign model makes us stumble over is a refusal of it."""
    try:
        yield
    except TaxiwayError:
        raise
    except Exception as problem:
        raise ScanFailed(
            f"{staged.name} could not be understood: {type(problem).__name__}: {problem}"[:_MAX_SAID],
            hint="this is worth a report, with the file",
            file=staged.name,
            rule="understand",
        ) from problem


def _companions(file: StagedFile) -> frozenset[str]:
    return external_files(file) if is_onnx(file) else frozenset()


def _look(staged: Staged, wanted: Wanted, limits: Limits) -> tuple[Format, Scanned]:
    """Recognise, then scan. What is unsafe is told even of what was not recognised: it matters more."""
    try:
        format_ = recognise(staged)
    except UnrecognisedModel:
        scan(staged, frozenset(), wanted.trust, limits)
        raise
    return format_, scan(staged, format_.raw(staged), wanted.trust, limits)


def _completed(model: Understanding, wanted: Wanted, staged: Staged, office: Office) -> Understanding:
    """With what was said on the command line, and converted where somebody converts it."""
    told = replace(model, inputs=wanted.inputs or model.inputs, outputs=wanted.outputs or model.outputs)
    converter = office.converters.get(told.backend)
    if converter is None or model.config is not None:
        return told
    if wanted.inputs or wanted.outputs:
        why = (
            "--input and --output-tensor name its tensors as it is; ONNX names them X, label, probabilities, prediction"
        )
        return not_converted(told, "tensors-named", why)
    office.tell("converting to ONNX and comparing the answers")
    return converter(told, staged, wanted.trust)


# --- naming and hashing --------------------------------------------------------------------------------


def _prepare(
    model: Understanding,
    wanted: Wanted,
    brought: Brought,
    staged: Staged,
    format_: Format,
    scanned: Scanned,
    signature: SignatureState,
) -> Imported:
    name = wanted.name or checked_name(model.name or brought.name or model_name(staged.name))
    config = write_config(model, name, (wanted.inputs, wanted.outputs))
    entries = [_entry(path, staged.files[source]) for path, source in model.files.items() if path != CONFIG_FILE]
    entries += [FileEntry(path, *_hashed(data)) for path, data in {**model.made, CONFIG_FILE: config.encode()}.items()]
    manifest = Manifest.of(entries)
    origin = {**brought.origin, "format": model.format, "digest": _source_digest(staged)}
    return Imported(
        name,
        model,
        format_.title,
        config,
        manifest.files,
        manifest.digest,
        scanned,
        signature,
        origin,
        trained_by=brought.trained_by,
    )


def _left_out(staged: Staged, models: Sequence[Understanding]) -> tuple[str, ...]:
    used = {path for model in models for path in model.files.values()}
    own = {path for path in staged.files if path.rpartition("/")[2] == CONFIG_FILE}
    return (*sorted(set(staged.files) - used - own), *staged.left_out)


def _check_names(prepared: Sequence[Imported], wanted: Wanted) -> None:
    names = {one.name for one in prepared}
    if wanted.name and len({one.model.name for one in prepared}) > 1:
        raise InvalidArgument(
            f"{wanted.source} holds {len(prepared)} models, which cannot all be called {wanted.name!r}",
            hint="leave --name out, or import one model's directory",
            names=sorted(names),
        )


def _entry(path: str, file: StagedFile) -> FileEntry:
    return FileEntry(path, file.sha256, file.size)


def _hashed(data: bytes) -> tuple[str, int]:
    return hashlib.sha256(data).hexdigest(), len(data)


def _source_digest(staged: Staged) -> str:
    """One digest for the source as it was: of its file, or of the list of its files."""
    if staged.single is not None:
        return staged.files[staged.single].digest
    listing = "".join(f"{file.sha256}  {path}\n" for path, file in sorted(staged.files.items()))
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


# --- registering ---------------------------------------------------------------------------------------


def _register(one: Imported, staged: Staged, wanted: Wanted, shelf: Shelf) -> Imported:
    model = one.model
    for entry in one.files:
        if entry.path == CONFIG_FILE:
            stored = shelf.put_bytes(one.config.encode())
        elif entry.path in model.made:
            stored = shelf.put_bytes(model.made[entry.path])
        else:
            stored = shelf.put_file(staged.files[model.files[entry.path]].at)
        _check_same(entry, stored)
    new = NewVersion(
        one.name,
        Manifest.of(one.files),
        model.framework,
        signature=signature_of(model),
        origin=one.origin,
        facts=facts_of(one),
    )
    try:
        version = shelf.register(new, actor=wanted.actor, why=wanted.why)
    except AlreadyRegistered as already:
        number = already.facts["version"]
        _trace(one, ModelRef(one.name, number), wanted, shelf)
        if wanted.alias:
            already.hint = f"to move the alias: taxiway alias set {one.name}@{wanted.alias} {number} --why REASON"
        raise
    _trace(one, ModelRef(one.name, version.number), wanted, shelf)
    return replace(one, version=version, alias_ref=_point(version, wanted, shelf))


def _register_or_find(one: Imported, staged: Staged, wanted: Wanted, shelf: Shelf) -> Imported:
    """As `_register`, for one of several models: that one of them is there already keeps none of the others out."""
    try:
        return _register(one, staged, wanted, shelf)
    except AlreadyRegistered as already:
        version = shelf.resolve(ModelRef(one.name, already.facts["version"]))
        return replace(one, version=version, is_new=False, alias_ref=_point(version, wanted, shelf))


def _trace(one: Imported, ref: ModelRef, wanted: Wanted, shelf: Shelf) -> None:
    """Record what made these files: also of a version that was there, as its import may have been cut short."""
    if one.trained_by:
        with suppress(AlreadyExists):
            shelf.add_lineage(ref, "trained-by", one.trained_by, actor=wanted.actor)
    for made in one.model.made_from:
        with suppress(AlreadyExists):
            shelf.add_lineage(ref, "artifact", made.digest, actor=wanted.actor, facts=made.facts)


def _point(version: Version, wanted: Wanted, shelf: Shelf) -> str:
    """Move the alias that was asked for, and say how it is referred to; empty: none was asked for."""
    if not wanted.alias:
        return ""
    shelf.set_alias(version.name, wanted.alias, version.number, expect=ANY, actor=wanted.actor, why=wanted.why)
    return f"{version.name}@{wanted.alias}"


def _check_same(entry: FileEntry, stored: StoredFile) -> None:
    """What the registry keeps is what was scanned."""
    if (entry.sha256, entry.size) != (stored.sha256, stored.size):
        raise ArtifactChanged(
            f"{entry.path} changed between the look at it and its registration",
            hint="somebody else writes to the import's private directory; find out who",
            file=entry.path,
            rule="same-bytes",
            want=entry.sha256,
            got=stored.sha256,
        )


def signature_of(model: Understanding) -> dict[str, Any]:
    """Inputs and outputs in the protocol's words; empty lists where nobody knows them."""
    return {"inputs": [_tensor(spec) for spec in model.inputs], "outputs": [_tensor(spec) for spec in model.outputs]}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": list(spec.shape)} | (
        {"optional": True} if spec.optional else {}
    )


def facts_of(one: Imported) -> dict[str, Any]:
    """Whatever was understood, as the registry keeps it."""
    model = one.model
    return {
        "format": model.format,
        "framework_version": model.version,
        "backend": model.backend or model.platform,
        "scan": one.scanned.as_facts(),
        "openssf_signature": one.signature.as_facts(),
        "notes": list(model.notes),
        "left_out": list(one.left_out),
        "understood": dict(model.facts),
    } | ({"conversion": dict(model.conversion)} if model.conversion else {})
