"""The one tree of errors; each says its kind, its code, what happened, and the next step.

`kind` is a closed set that the edges map to HTTP, gRPC and exit codes (`server/wire/status.py`, `cli`);
`code` is a stable kebab-case name with an anchor in docs/errors.md. Between processes an error travels as
`to_data()`, never as a pickle.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Self


class ErrorKind(enum.Enum):
    """What sort of failure it is, whatever the protocol it is told through."""

    INVALID_ARGUMENT = "invalid_argument"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    FAILED_PRECONDITION = "failed_precondition"
    UNSUPPORTED = "unsupported"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    VERDICT_FAILED = "verdict_failed"
    VERDICT_INCONCLUSIVE = "verdict_inconclusive"
    AWAITING_APPROVAL = "awaiting_approval"
    DATA_LOSS = "data_loss"
    INTERNAL = "internal"


EXIT_CODES: dict[ErrorKind, int] = {
    ErrorKind.INVALID_ARGUMENT: 2,
    ErrorKind.UNAUTHENTICATED: 4,
    ErrorKind.PERMISSION_DENIED: 4,
    ErrorKind.NOT_FOUND: 3,
    ErrorKind.ALREADY_EXISTS: 4,
    ErrorKind.FAILED_PRECONDITION: 4,
    ErrorKind.UNSUPPORTED: 2,
    ErrorKind.RESOURCE_EXHAUSTED: 5,
    ErrorKind.UNAVAILABLE: 5,
    ErrorKind.DEADLINE_EXCEEDED: 5,
    ErrorKind.CANCELLED: 130,
    ErrorKind.VERDICT_FAILED: 6,
    ErrorKind.VERDICT_INCONCLUSIVE: 7,
    ErrorKind.AWAITING_APPROVAL: 8,
    ErrorKind.DATA_LOSS: 1,
    ErrorKind.INTERNAL: 70,
}


class TaxiwayError(Exception):
    """The root. Never raised itself: a subclass fixes `kind` and `code`.

    Args:
        message: what happened, naming the field, the value and the rule.
        hint: the next step, naming a real command, key or limit; may be empty.
        facts: structured values for logs and tests.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:  # noqa: ANN401 - facts are free-form
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def retold(self, message: str | None = None) -> Self:
        """The same error anew, for another who is told of it: an exception keeps where it was raised, each time."""
        return type(self)(self.message if message is None else message, hint=self.hint, **self.facts)

    def to_data(self) -> dict[str, Any]:
        """The error as plain data, to cross a process or a wire."""
        return {
            "kind": self.kind.value,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "facts": self.facts,
        }


class InternalError(TaxiwayError):
    """Something of ours is broken; the request did nothing wrong."""


class ModelProcessDied(TaxiwayError):
    """The process of the model ended while it ran this request; another has been started in its place."""

    code = "model-process-died"


class ModelFailed(TaxiwayError):
    """The model itself raised while it ran this request."""

    code = "model-failed"


class UnknownFailure(ModelFailed):
    """The model itself says that it failed, and that it does not know in what way."""

    code = "unknown-failure"


# --- invalid_argument ----------------------------------------------------------------------------------


class InvalidArgument(TaxiwayError):
    """A value that a caller sent breaks a rule."""

    kind = ErrorKind.INVALID_ARGUMENT
    code = "invalid-argument"


class MalformedJson(InvalidArgument):
    """The body is not JSON, or nests deeper than allowed."""

    code = "malformed-json"


class MalformedRequest(InvalidArgument):
    """The body is JSON of the wrong structure: a member is missing or has the wrong type."""

    code = "malformed-request"


class MalformedHttp(InvalidArgument):
    """The bytes on the connection are not HTTP/1.1."""

    code = "malformed-http"


class WrongElementType(InvalidArgument):
    """A JSON element cannot be read as the tensor's datatype."""

    code = "wrong-element-type"


class WrongElementCount(InvalidArgument):
    """The number of elements is not what the shape says."""

    code = "wrong-element-count"


class WrongStringCount(WrongElementCount):
    """JSON `data` of a BYTES input does not have as many strings as its shape says."""

    code = "wrong-string-count"


class ValueOutOfRange(InvalidArgument):
    """A JSON number does not fit the tensor's datatype."""

    code = "value-out-of-range"


class WrongShape(InvalidArgument):
    """A tensor's shape is not one the model takes."""

    code = "wrong-shape"


class WrongDatatype(InvalidArgument):
    """A tensor's datatype is not the one the model takes."""

    code = "wrong-datatype"


class WrongByteSize(InvalidArgument):
    """A binary tensor's bytes are more or fewer than its shape says."""

    code = "wrong-byte-size"


class UnknownTensor(InvalidArgument):
    """An input or output name that the model does not have, twice the same, or one too few."""

    code = "unknown-tensor"


class ReservedParameter(InvalidArgument):
    """A parameter name that the protocol keeps for itself."""

    code = "reserved-parameter"


class TooLarge(InvalidArgument):
    """A body, header, depth or count over its limit."""

    code = "too-large"


class HeaderTooLarge(TooLarge):
    """The request's head is over its limit."""

    code = "header-too-large"


class RequestTimeout(InvalidArgument):
    """The client sent its request too slowly."""

    code = "request-timeout"


class MethodNotAllowed(InvalidArgument):
    """The route exists, but not for this method."""

    code = "method-not-allowed"


class GenerateInvalid(InvalidArgument):
    """A generate request that the model does not take; `facts['cause']` is the code of the broken rule."""

    code = "generate-invalid"


class RegionUnusable(InvalidArgument):
    """A region of shared memory that cannot be opened, or is too small for what is to be written to it."""

    code = "region-unusable"


class InvalidConfig(InvalidArgument):
    """Settings or a model configuration break a rule; every problem is in `facts['problems']`."""

    code = "invalid-config"


class InvalidWorkload(InvalidArgument):
    """A file of requests to profile with breaks a rule; every line that does is in `facts['problems']`."""

    code = "invalid-workload"


class InvalidModel(InvalidArgument):
    """A model file that cannot be loaded."""

    code = "invalid-model"


class InvalidData(InvalidArgument):
    """Data for calibration or evaluation that do not fit the model, or hold values that are not numbers."""

    code = "invalid-data"


class NotEnoughData(InvalidArgument):
    """Too few samples to split into calibration, choice and proof."""

    code = "not-enough-data"


class OverlappingData(InvalidArgument):
    """A sample of the proof is among those that a recipe was made with, so its verdict would be worth nothing."""

    code = "overlapping-data"


class InvalidManifest(InvalidArgument):
    """A list of files that cannot be a version: a path that leaves its folder, is there twice, or has no digest."""

    code = "invalid-manifest"


class UnrecognisedModel(InvalidArgument):
    """What is to be imported is none of the formats that are known, or several of them at once."""

    code = "unrecognised-model"


class UnsafeArtifact(InvalidArgument):
    """A foreign model breaks a rule that keeps whoever imports it safe; `facts` name the file and the rule."""

    code = "unsafe-artifact"


class UntrustedPickle(UnsafeArtifact):
    """A pickle, in whatever disguise: to read it is to run it, and nobody said that this very file is trusted."""

    code = "untrusted-pickle"


class UnsafePath(UnsafeArtifact):
    """A path or a link in a foreign model leads out of it, or names what is no plain file."""

    code = "unsafe-path"


class OversizedArtifact(UnsafeArtifact):
    """A foreign model unpacks, nests or counts beyond a limit, as a bomb does."""

    code = "oversized-artifact"


class MalformedArtifact(UnsafeArtifact):
    """A foreign model's bytes contradict themselves: a header that lies, a name twice, a file that is cut off."""

    code = "malformed-artifact"


class UnknownContent(UnsafeArtifact):
    """A file of a foreign model is of no kind that is known here, so nobody can say what it would do."""

    code = "unknown-content"


class ScanFailed(UnsafeArtifact):
    """A scanner could not look at a foreign model to its end; what was not seen is not let in."""

    code = "scan-failed"


class SignatureRefused(UnsafeArtifact):
    """The OpenSSF signature of a foreign model is required and missing, or does not fit its files."""

    code = "signature-refused"


class ArtifactChanged(UnsafeArtifact):
    """A file's bytes changed between the look at it and its registration."""

    code = "artifact-changed"


# --- not_found -----------------------------------------------------------------------------------------


class NotFound(TaxiwayError):
    """A thing that was named does not exist."""

    kind = ErrorKind.NOT_FOUND
    code = "not-found"


class ModelNotFound(NotFound):
    """No model, or no such version of it, is served under this name."""

    code = "model-not-found"


class VersionNotServed(ModelNotFound):
    """A version that is known, and not served: it was unloaded, or could not be loaded."""

    code = "version-not-served"


class RepositoryModelNotFound(ModelNotFound):
    """A model is to be loaded that does not lie in any of the repositories."""

    code = "repository-model-not-found"


class VersionNotRegistered(ModelNotFound):
    """The registry holds no such model, version, variant or alias."""

    code = "version-not-registered"


class StatisticsNotFound(ModelNotFound):
    """Statistics were asked of a model or version that is not served."""

    code = "statistics-not-found"


class TraceModelNotFound(ModelNotFound):
    """Trace settings were asked of a model that is not served."""

    code = "trace-model-not-found"


class RolloutNotFound(NotFound):
    """The journal holds no rollout of this id."""

    code = "rollout-not-found"


class RouteNotFound(NotFound):
    """No such path."""

    code = "route-not-found"


# --- who may call --------------------------------------------------------------------------------------


class Unauthenticated(TaxiwayError):
    """The call needs an API key, and brought none that is known."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "unauthenticated"


class PermissionDenied(TaxiwayError):
    """The key is known, but not for this call or this model."""

    kind = ErrorKind.PERMISSION_DENIED
    code = "permission-denied"


# --- the rest ------------------------------------------------------------------------------------------


class AlreadyExists(TaxiwayError):
    """A thing of this name is there already, and is another one."""

    kind = ErrorKind.ALREADY_EXISTS
    code = "already-exists"


class AlreadyRegistered(AlreadyExists):
    """The same files are a version of this model already; `facts['version']` is its number."""

    code = "already-registered"


class IdempotencyConflict(AlreadyExists):
    """An idempotency key was used before, for another request."""

    code = "idempotency-conflict"


class Cancelled(TaxiwayError):
    """Whoever asked took the request back."""

    kind = ErrorKind.CANCELLED
    code = "cancelled"


class FailedPrecondition(TaxiwayError):
    """The call is right, but not now."""

    kind = ErrorKind.FAILED_PRECONDITION
    code = "failed-precondition"


class InvalidTransition(FailedPrecondition):
    """A state machine was asked for a step that its table does not have; tells the story so far."""

    code = "invalid-transition"


class NoRoom(FailedPrecondition):
    """A model takes more memory than all loaded models together may."""

    code = "no-room"


class AliasMoved(FailedPrecondition):
    """An alias does not point where its mover expected: somebody else moved it first. `facts['found']` says where."""

    code = "alias-moved"


class BlobMissing(FailedPrecondition):
    """A version names bytes that the registry does not keep, or no longer."""

    code = "blob-missing"


class FilesDisagree(FailedPrecondition):
    """Two versions of one model cannot lie in one repository: a file they share differs."""

    code = "files-disagree"


class StaleGeneration(FailedPrecondition):
    """A rollout moved on since it was looked at; `facts['found']` is its generation now."""

    code = "stale-generation"


class NotLeader(FailedPrecondition):
    """Another control process leads; `facts['leader']` says which. Only the leader moves rollouts."""

    code = "not-leader"


class RolloutActive(FailedPrecondition):
    """A service has a rollout that goes on, `facts['rollout']`, and can have one at a time."""

    code = "rollout-active"


class QuarantinedVersion(FailedPrecondition):
    """These very files were rolled back before, by `facts['rollout']`; to try them again takes `force` and a reason."""

    code = "quarantined-version"


class SchemaTooNew(FailedPrecondition):
    """The tables of the registry, or of the journal of rollouts, were written by a later release."""

    code = "schema-too-new"


class Unsupported(TaxiwayError):
    """The protocol has it, this model or server does not."""

    kind = ErrorKind.UNSUPPORTED
    code = "unsupported"


class ExtraMissing(Unsupported):
    """What was asked for needs a library that is installed only with one of taxiway's extras."""

    code = "extra-missing"


class NotOneAnswer(Unsupported):
    """A call that carries one answer asked a decoupled model, which gave none, or several."""

    code = "not-one-answer"


class SlowReader(TaxiwayError):
    """A client reads the answers of a stream more slowly than they come, and as many wait for it as may."""

    kind = ErrorKind.RESOURCE_EXHAUSTED
    code = "slow-reader"


class Overloaded(TaxiwayError):
    """The server's own capacity is used up; nothing was started. `retry_after_s` says when to come back."""

    kind = ErrorKind.RESOURCE_EXHAUSTED
    code = "overloaded"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, hint=hint, retry_after_s=retry_after_s, **facts)
        self.retry_after_s = retry_after_s


class Unavailable(TaxiwayError):
    """The model or the server is loading or draining."""

    kind = ErrorKind.UNAVAILABLE
    code = "unavailable"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, hint=hint, retry_after_s=retry_after_s, **facts)
        self.retry_after_s = retry_after_s


class ColdModel(Unavailable):
    """The model was unloaded to make room for others; a request for it has it loaded again."""

    code = "cold-model"


class JournalUnavailable(Unavailable):
    """The database of the journal of rollouts cannot be reached, or refuses."""

    code = "journal-unavailable"


class JournalBusy(JournalUnavailable):
    """Somebody else writes to the journal of rollouts, and did not finish in time."""

    code = "journal-busy"


class RegistryUnavailable(Unavailable):
    """The registry's database cannot be reached, or refuses."""

    code = "registry-unavailable"


class RegistryBusy(RegistryUnavailable):
    """Somebody else writes to the registry, and did not finish in time."""

    code = "registry-busy"


class TargetUnavailable(Unavailable):
    """The server that is to be profiled does not answer, or not as its protocol says."""

    code = "target-unavailable"


class MlflowUnavailable(Unavailable):
    """MLflow cannot be reached, or does not answer as it should."""

    code = "mlflow-unavailable"


class DataLoss(TaxiwayError):
    """Stored bytes are gone, or are not what was stored."""

    kind = ErrorKind.DATA_LOSS
    code = "data-loss"


class AuditBroken(DataLoss):
    """The audit log, or the state it tells of, was changed by something else than taxiway; `facts['seq']` is where."""

    code = "audit-broken"


class JournalBroken(DataLoss):
    """The journal of rollouts was changed by something else than taxiway; `facts['seq']` is where."""

    code = "journal-broken"


class DeadlineExceeded(TaxiwayError):
    """The request's time ran out before it was answered."""

    kind = ErrorKind.DEADLINE_EXCEEDED
    code = "deadline-exceeded"


class VerdictFailed(TaxiwayError):
    """A gate or a rollout said no: the candidate is worse, and does not answer."""

    kind = ErrorKind.VERDICT_FAILED
    code = "verdict-failed"


class VerdictInconclusive(TaxiwayError):
    """There is not enough evidence to say yes or no; nothing was changed for it."""

    kind = ErrorKind.VERDICT_INCONCLUSIVE
    code = "verdict-inconclusive"


class AwaitingApproval(TaxiwayError):
    """A person has to say yes before it goes on."""

    kind = ErrorKind.AWAITING_APPROVAL
    code = "awaiting-approval"


class CrashLoop(TaxiwayError):
    """A process of the server ended again and again; the server gives up, so that whoever started it can act."""

    code = "crash-loop"


def error_from_data(data: Mapping[str, Any]) -> TaxiwayError:
    """The error that `to_data` told, of the same class; a code that is not known here is an InternalError."""
    kind = _by_code().get(data["code"], InternalError)
    return kind(data["message"], hint=data["hint"], **data["facts"])


@functools.cache
def _by_code() -> dict[str, type[TaxiwayError]]:
    found: dict[str, type[TaxiwayError]] = {}
    waiting: list[type[TaxiwayError]] = TaxiwayError.__subclasses__()
    while waiting:
        kind = waiting.pop()
        if kind.__module__ == __name__:
            found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found
