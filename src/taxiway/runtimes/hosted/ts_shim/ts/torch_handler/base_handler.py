"""What most handlers derive from: loads the archive's model, and answers in three steps.

As TorchServe's, but for what is said here: weights are loaded as weights, never as a pickle, unless the file's digest
is among those that were vouched for (`models.trust`); there is no profiler, no ONNX, no ahead-of-time compiled model.
"""

from __future__ import annotations

import abc
import hashlib
import importlib
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..handler_utils.timer import timed  # noqa: TID252 - found as `ts`, and as part of ours
from ..utils.util import PredictionException, list_classes_from_module, load_label_mapping  # noqa: TID252 - found as `ts`, and as part of ours

TRUSTED = "trusted_pickles"
"""The system property that holds the digests of the pickles that may be loaded."""


class BaseHandler(abc.ABC):  # noqa: B024 - TorchServe's is one too, and handlers test for it
    """Loads a model and answers with it; handlers override the steps they want otherwise.

    Attributes:
        model: the module, in evaluation mode on `device`.
        mapping: names of classes from index_to_name.json; None if the archive has none.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: dict[str, str] | None = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: Any = None
        self.map_location: str | None = None
        self.model_yaml_config: dict[str, Any] = {}
        self.explain = False
        self.target = 0
        self._trusted: frozenset[str] = frozenset()

    def initialize(self, context: Any) -> None:  # noqa: ANN401 - ours or TorchServe's
        """Load the model that the manifest names.

        Raises:
            RuntimeError: it names none that can be loaded.
        """
        properties = context.system_properties
        self.model_yaml_config = getattr(context, "model_yaml_config", {})
        self.map_location = "cuda" if torch.cuda.is_available() and properties.get("gpu_id") is not None else "cpu"
        where = f"cuda:{properties['gpu_id']}" if self.map_location == "cuda" else "cpu"
        self.device = torch.device(where)
        self.manifest = context.manifest
        self._trusted = frozenset(properties.get(TRUSTED, ()))
        model_dir = properties["model_dir"]
        told = self.manifest["model"]
        if "serializedFile" in told:
            self.model_pt_path = os.path.join(model_dir, told["serializedFile"])  # noqa: PTH118 - handlers use it as text
        if told.get("modelFile"):
            self.model = self._load_pickled_model(model_dir, told["modelFile"], self.model_pt_path)
            self.model.to(self.device)
        elif self.model_pt_path is not None and self.model_pt_path.endswith(".pt"):
            self.model = self._load_torchscript_model(self.model_pt_path)
        else:
            raise RuntimeError("No model weights could be loaded")
        self.model.eval()
        self._compile()
        self.mapping = load_label_mapping(os.path.join(model_dir, "index_to_name.json"))  # noqa: PTH118
        self.initialized = True

    def _compile(self) -> None:
        """As `pt2: {compile: {enable: true, ...}}` of the archive's configuration asks."""
        options = dict((self.model_yaml_config.get("pt2") or {}).get("compile") or {})
        if options.pop("enable", False):
            self.model = torch.compile(self.model, **options)

    def _load_torchscript_model(self, model_pt_path: str) -> Any:  # noqa: ANN401
        return torch.jit.load(model_pt_path, map_location=self.device)

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: str | None) -> Any:  # noqa: ANN401
        """An eager model: the one class of its file, with its weights."""
        if not Path(model_dir, model_file).is_file():
            raise RuntimeError(f"Missing the {model_file} file")
        module = importlib.import_module(model_file.split(".", maxsplit=1)[0])
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            raise ValueError(f"Expected only one class as model definition. {classes}")
        model = classes[0]()
        if model_pt_path:
            model.load_state_dict(load_weights(model_pt_path, self.device, self._trusted))
        return model

    @timed
    def preprocess(self, data: Sequence[Any]) -> Any:  # noqa: ANN401
        """The requests as one tensor."""
        return torch.as_tensor(data, device=self.device)

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """The model's answer."""
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> list[Any]:  # noqa: ANN401
        """What each request is answered."""
        answers: list[Any] = data.tolist()
        return answers

    def handle(self, data: Sequence[Any], context: Any) -> list[Any]:  # noqa: ANN401
        """Answer a batch of requests."""
        started = time.perf_counter()
        self.context = context
        if self._is_describe():
            answers: list[Any] = [self.describe_handle()]
        else:
            given = self.preprocess(data)
            answers = self.explain_handle(given, data) if self._is_explain() else self._infer(given)
        context.metrics.add_time("HandlerTime", (time.perf_counter() - started) * 1000, None, "ms")
        return answers

    def _infer(self, given: Any) -> list[Any]:  # noqa: ANN401
        answers: list[Any] = self.postprocess(self.inference(given))
        return answers

    def explain_handle(self, data_preprocess: Any, raw_data: Sequence[Any]) -> Any:  # noqa: ANN401
        """Why the model answers as it does: the handler's own `get_insights` says, if it has one."""
        insights = getattr(self, "get_insights", None)
        if insights is None:
            raise PredictionException("this handler explains nothing: it has no method get_insights", 501)
        row = raw_data[0] if isinstance(raw_data[0], dict) else {}
        return insights(data_preprocess, row.get("data") or row.get("body"), row.get("target") or 0)

    def describe_handle(self) -> Any:  # noqa: ANN401
        """What the handler says of itself; nothing unless it is overridden."""
        return None

    def _is_explain(self) -> bool:
        self.explain = self.context.get_request_header(0, "explain") == "True"
        return self.explain

    def _is_describe(self) -> bool:
        return bool(self.context.get_request_header(0, "describe") == "True")

    def get_device(self) -> Any:  # noqa: ANN401
        """Where the model is."""
        return self.device


def load_weights(path: str, device: Any, trusted: frozenset[str]) -> Any:  # noqa: ANN401 - torch's own types
    """The state in a file: weights only, unless the file's digest was vouched for.

    Raises:
        pickle.UnpicklingError: it holds more than weights, and nobody vouched for it.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in trusted:
            raise
        return torch.load(path, map_location=device, weights_only=False)
