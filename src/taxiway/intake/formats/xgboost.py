"""XGBoost, in JSON or binary JSON."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from taxiway.core.errors import MalformedArtifact
from taxiway.core.tensors import TensorSpec
from taxiway.intake.formats.files import kind_of, one_text, the_one
from taxiway.intake.formats.trees import classes_out, numbers_out, rows_in
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Buffer, Format, Staged, StagedFile, Understanding
from taxiway.intake.read.documents import json_or
from taxiway.intake.read.ubjson import read_ubjson
from taxiway.intake.scan.content import Kind

_JSON: Final = re.compile(rb'\s*\{\s*"(learner|version)"\s*:')
_BINARY: Final = re.compile(rb"\{(i|U|I.|l...|L.......)\x07(learner\{|version\[)", re.DOTALL)
_NUMBERS: Final = ("reg:", "count:", "survival:", "rank:")
_TAIL_BYTES: Final = 1 << 20


def _recognise(staged: Staged) -> bool:
    return one_text(staged, _JSON) is not None or one_text(staged, _BINARY) is not None


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    binary = kind_of(file) is Kind.UBJSON
    with file.mapped() as data:
        learner, version = _from_binary(data, file) if binary else _from_json(data)
    parameters = learner.get("learner_model_param")
    if not parameters:
        raise _broken(file, "it has no learner_model_param")
    objective = str(learner.get("objective", {}).get("name", ""))
    features = _count(parameters, "num_feature", file)
    classes, targets = _count(parameters, "num_class", file), _count(parameters, "num_target", file)
    return (
        Understanding(
            format="xgboost",
            framework="xgboost",
            version=version,
            backend="xgboost",
            files={f"@/{'model.ubj' if binary else 'xgboost.json'}": file.path},
            inputs=rows_in(features),
            outputs=_outputs(objective, classes, targets),
            facts={"features": features, "classes": classes, "targets": targets, "objective": objective}
            | ({"feature_names": names} if (names := _names(learner)) else {}),
        ),
    )


def _outputs(objective: str, classes: int, targets: int) -> tuple[TensorSpec, ...]:
    """What its answers mean is said by its objective; of one that is not known here, nothing is told."""
    if objective in ("binary:logistic", "multi:softprob"):
        return classes_out(max(2, classes))
    if objective == "multi:softmax":
        return numbers_out(1)
    return numbers_out(targets) if objective.startswith(_NUMBERS) else ()


def _from_binary(data: Buffer, file: StagedFile) -> tuple[dict[str, Any], str]:
    document = read_ubjson(data, file.path, DEFAULT_LIMITS)
    learner = document.get("learner") if isinstance(document, dict) else None
    if not isinstance(learner, dict):
        raise _broken(file, "it has no learner")
    version = document.get("version")
    return learner, ".".join(str(part) for part in version) if isinstance(version, list) else ""


def _from_json(data: Buffer) -> tuple[dict[str, Any], str]:
    """The trees may be gigabytes; what is asked lies before and after them."""
    text = bytes(data[-_TAIL_BYTES:])
    head = bytes(data[:_TAIL_BYTES])
    learner = {
        key: _object_after(text, key) or _object_after(head, key) for key in ("learner_model_param", "objective")
    }
    names = re.search(rb'"feature_names"\s*:\s*(\[[^\]]*\])', head)
    version = re.search(rb'"version"\s*:\s*\[(\d+),(\d+),(\d+)\]', text) or re.search(
        rb'"version"\s*:\s*\[(\d+),(\d+),(\d+)\]', head
    )
    if names:
        learner["feature_names"] = json_or(names[1], [])
    return learner, b".".join(version.groups()).decode() if version else ""


def _object_after(text: bytes, key: str) -> Any:  # noqa: ANN401 - JSON
    at = text.rfind(f'"{key}"'.encode())
    if at < 0:
        return {}
    rest = text[at + len(key) + 2 :].decode("utf-8", "replace").lstrip(" \t\r\n:")
    try:
        return json.JSONDecoder().raw_decode(rest)[0]
    except (ValueError, RecursionError):
        return {}


def _names(learner: dict[str, Any]) -> list[str]:
    names = learner.get("feature_names")
    return [str(name) for name in names[:1000]] if isinstance(names, list) else []


def _count(parameters: Any, key: str, file: StagedFile) -> int:  # noqa: ANN401 - foreign JSON
    text = str(parameters.get(key, "0")) if isinstance(parameters, dict) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _broken(file, f"its {key} is {text[:40]!r}")
    return int(text)


def _broken(file: StagedFile, what: str) -> MalformedArtifact:
    return MalformedArtifact(
        f"{file.path} is no whole XGBoost model: {what}",
        hint="save it again: booster.save_model('model.ubj')",
        file=file.path,
        rule="xgboost",
    )


XGBOOST = Format("xgboost", "XGBoost", _recognise, _understand)
