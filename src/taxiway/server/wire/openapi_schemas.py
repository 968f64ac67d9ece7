"""The words of GET /v2/openapi.json: JSON Schemas (2020-12) of what is sent and answered."""

from __future__ import annotations

from typing import Any, Final

from taxiway.core.tensors import Datatype

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """A reference to a schema below."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, *required: str, text: str = "", further: bool | Schema = True) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": further}
    if required:
        schema["required"] = list(required)
    if text:
        schema["description"] = text
    return schema


def _array(items: Schema, text: str = "") -> Schema:
    return {"type": "array", "items": items} | ({"description": text} if text else {})


def _of(kind: str, text: str = "") -> Schema:
    return {"type": kind} | ({"description": text} if text else {})


_SHAPE = _array({"type": "integer", "format": "int64"}, "Dimensions, outermost first; -1 in a signature is any.")
_NAME_AND_TYPE: Final[Schema] = {"name": _of("string"), "shape": _SHAPE, "datatype": ref("Datatype")}
_SCALAR = {"type": ["string", "number", "boolean"]}
_DATA = _array(
    {}, "Elements in C order, flat or nested. NaN, Infinity and -Infinity are taken and given as such tokens."
)

_LEVELS = _array({"enum": ["OFF", "TIMESTAMPS", "TENSORS"]}, "What is traced; OFF stands alone.")
_NUMERAL: Final[Schema] = {"type": "string", "pattern": "^-?[0-9]+$"}
_BYTES: Final[Schema] = {"type": "integer", "minimum": 0}
_LOG_MEMBERS: Final[Schema] = {
    "log_info": _of("boolean"),
    "log_warning": _of("boolean"),
    "log_error": _of("boolean"),
    "log_verbose_level": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "log_format": {"type": "string", "enum": ["default", "ISO8601"]},
}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _of("null")]}


SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        {
            "error": _of("string", "What happened, naming the field, the value and the rule."),
            "code": _of("string", "Stable and kebab-case; the anchor of its explanation in the documentation."),
            "hint": _of("string", "The next step."),
        },
        "error",
        "code",
    ),
    "Datatype": {"type": "string", "enum": [datatype.wire_name for datatype in Datatype]},
    "ServerMetadata": _object(
        {"name": _of("string"), "version": _of("string"), "extensions": _array(_of("string"))},
        "name",
        "version",
        "extensions",
    ),
    "Live": _object({"live": _of("boolean")}, "live"),
    "Ready": _object({"ready": _of("boolean")}, "ready"),
    "Ping": _object({"status": {"enum": ["Healthy", "Unhealthy"]}}, "status"),
    "TorchServeError": _object(
        {"code": _of("integer"), "type": _of("string"), "message": _of("string"), "hint": _of("string")},
        "code",
        "type",
        "message",
    ),
    "ModelReady": _object({"name": _of("string"), "ready": _of("boolean")}, "name", "ready"),
    "Models": _object({"models": _array(_of("string"))}, "models"),
    "TensorMetadata": _object(_NAME_AND_TYPE, "name", "shape", "datatype"),
    "ModelMetadata": _object(
        {
            "name": _of("string"),
            "versions": _array(_of("string")),
            "platform": _of("string"),
            "inputs": _array(ref("TensorMetadata")),
            "outputs": _array(ref("TensorMetadata")),
        },
        "name",
        "versions",
        "platform",
        "inputs",
        "outputs",
    ),
    "ModelConfig": _object({"name": _of("string")}, "name", text="Triton's ModelConfig as JSON."),
    "Feedback": _object(
        {
            "id": _of("string", "The request's own id."),
            "rating": {"type": "number", "minimum": 0, "maximum": 1},
            "label": {"description": "What the answer should have been."},
            "value": {"description": "Anything small."},
            "feedback": _array({"type": "object"}, "Several at once, each as this one."),
        },
        text="What somebody says of an answer: exactly one of rating, label and value; or several in `feedback`.",
    ),
    "RecordingStart": _object(
        {
            "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "most": _of("integer", "Ends after so many."),
            "with_inputs": _of("boolean", "The content of tensors too."),
        },
        "share",
        "most",
    ),
    "RecordingEnd": _object(
        {"keep": _of("boolean", "Whether what was not fetched yet can still be fetched.")},
    ),
    "Recorded": _object(
        {
            "requests": _array({"type": "object"}, "Each with `arrived_ns` and `inputs`, whose `raw` is base64."),
            "seen": _of("integer", "Since it began."),
            "dropped": _of("integer", "That did not fit."),
            "held": _of("integer", "Yet to be fetched."),
        },
        "requests",
        "seen",
        "dropped",
        "held",
    ),
    "FeedbackCounts": _object(
        {
            "stored": _of("integer", "New ones."),
            "duplicate": _of("integer", "Said before, and the same."),
            "conflicting": _of("integer", "Something else was said before, which stands."),
        },
        "stored",
        "duplicate",
        "conflicting",
    ),
    "Statistics": _object(
        {"model_stats": _array(_object({"name": _of("string"), "version": _of("string")}, "name", "version"))},
        "model_stats",
        text="Triton's statistics extension.",
    ),
    "IndexRequest": _object({"ready": _of("boolean", "Only the versions that are ready.")}),
    "Index": _array(
        _object(
            {
                "name": _of("string"),
                "version": _of("string", "Absent if the model was never loaded, and so is the state."),
                "state": _of("string", "READY, LOADING, UNLOADING or UNAVAILABLE."),
                "reason": _of("string", "Why it is in that state, or what happened since."),
            },
            "name",
        )
    ),
    "LoadRequest": _object(
        {
            "parameters": {
                "type": "object",
                "description": "Without any, the model is read from its repository again.",
                "properties": {"config": _of("string", "The configuration as JSON text, instead of config.pbtxt.")},
                "patternProperties": {
                    "^file:": _of("string", "A file of the model's directory, in base64; needs `config`.")
                },
                "additionalProperties": False,
            }
        }
    ),
    "UnloadRequest": _object(
        {
            "parameters": _object(
                {"unload_dependents": _of("boolean", "Also those that were only loaded since it asks them.")}
            )
        }
    ),
    "InferInput": _object(
        {
            **_NAME_AND_TYPE,
            "parameters": _object(
                {"binary_data_size": _of("integer", "Bytes of this tensor after the JSON part; excludes `data`.")}
            ),
            "data": _DATA,
        },
        "name",
        "shape",
        "datatype",
    ),
    "InferOutputChoice": _object(
        {
            "name": _of("string"),
            "parameters": _object(
                {
                    "binary_data": _of("boolean", "Send it after the JSON part."),
                    "classification": _of("integer", 'Send so many best classes, as "score:index[:label]".'),
                }
            ),
        },
        "name",
    ),
    "InferRequest": _object(
        {
            "id": _of("string", "Echoed."),
            "parameters": _object(
                {
                    "priority": _of("integer", "1 is the most urgent level; 0 is the model's default."),
                    "timeout": _of("integer", "Microseconds the answer is of use; 0 for no limit."),
                    "binary_data_output": _of("boolean", "Send all outputs after the JSON part."),
                },
                further=_SCALAR,
            ),
            "inputs": _array(ref("InferInput")),
            "outputs": _array(ref("InferOutputChoice"), "All of the model's if absent."),
        },
        "inputs",
    ),
    "InferOutput": _object(
        {
            **_NAME_AND_TYPE,
            "parameters": _object({"binary_data_size": _of("integer", "Bytes of this tensor after the JSON part.")}),
            "data": _DATA,
        },
        "name",
        "shape",
        "datatype",
    ),
    "InferResponse": _object(
        {
            "id": _of("string"),
            "model_name": _of("string"),
            "model_version": _of("string"),
            "parameters": _object({"triton_final_response": _of("boolean", "Of events: whether no answer follows.")}),
            "outputs": _array(ref("InferOutput")),
        },
        "model_name",
        "model_version",
        "outputs",
    ),
    "GenerateRequest": _object(
        {
            "id": _of("string", "Echoed."),
            "parameters": _object({}, text="Parameters; a member named like an input feeds that input."),
        },
        text="Members named like inputs hold their elements: one, or a flat list. Other members are parameters.",
    ),
    "GenerateResponse": _object(
        {"id": _of("string"), "model_name": _of("string"), "model_version": _of("string")},
        "model_name",
        "model_version",
        text="Beside these a member for each output: its only element, or a flat list of all.",
        further={"anyOf": [_SCALAR, _array(_SCALAR)]},
    ),
    "PredictRequest": {
        "type": "object",
        "oneOf": [
            _object(
                {"instances": _array({}, "One element per row: a value, or an object of values by input name.")},
                "instances",
            ),
            _object({"inputs": {"description": "A whole tensor, or an object of them by input name."}}, "inputs"),
        ],
        "description": 'Shapes come from the nesting. {"b64": "..."} may stand for an element of a BYTES input.',
    },
    "PredictResponse": {
        "type": "object",
        "oneOf": [
            _object(
                {"predictions": _array({}, "One element per row: a value, or an object of values by output name.")},
                "predictions",
            ),
            _object({"outputs": {"description": "A whole tensor, or an object of them by output name."}}, "outputs"),
        ],
    },
    "TraceSettings": _object(
        {
            "trace_level": _LEVELS,
            "trace_rate": _NUMERAL,
            "trace_count": _NUMERAL,
            "log_frequency": _NUMERAL,
            "trace_file": _of("string"),
            "trace_mode": _of("string"),
        },
        "trace_level",
        "trace_rate",
        "trace_count",
        "trace_mode",
    ),
    "TraceChange": _object(
        {
            "trace_level": _or_null(_LEVELS),
            "trace_rate": _or_null(_NUMERAL),
            "trace_count": _or_null(_NUMERAL),
            "log_frequency": _or_null(_NUMERAL),
            "trace_mode": _or_null({"type": "string", "enum": ["triton", "opentelemetry"]}),
        },
        text="Null takes an earlier change back.",
        further=False,
    ),
    "Regions": _array(
        _object(
            {"name": _of("string"), "key": _of("string"), "offset": _BYTES, "byte_size": _BYTES},
            "name",
            "key",
            "offset",
            "byte_size",
        )
    ),
    "RegisterRequest": _object(
        {"key": _of("string", "The name of a file in /dev/shm."), "offset": _BYTES, "byte_size": _BYTES},
        "key",
        "byte_size",
    ),
    "LogSettings": _object({"log_file": _of("string"), **_LOG_MEMBERS}, "log_file", *_LOG_MEMBERS),
    "LogChange": _object({key: _or_null(schema) for key, schema in _LOG_MEMBERS.items()}, further=False),
}
