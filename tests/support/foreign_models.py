"""Small real models of each framework, made by the framework itself; and files of those that are not installed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.support.malicious.making import torch_saved, write, zipped_items
from tests.support.onnx_models import doubler

FEATURES = 4


def samples() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """120 rows of four features, and a class of three for each."""
    rows = np.random.default_rng(0).normal(size=(120, FEATURES)).astype(np.float32)
    return rows, np.digitize(rows[:, 0], [-0.5, 0.5]).astype(np.int64)


def pipeline() -> Any:
    """A scaler and a logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*samples())


def skops_file(path: Path) -> Path:
    import skops.io

    skops.io.dump(pipeline(), path)
    return path


def pickle_file(path: Path) -> Path:
    path.write_bytes(pickle.dumps(pipeline()))
    return path


def joblib_file(path: Path) -> Path:
    import joblib

    joblib.dump(pipeline(), path, compress=3)
    return path


def xgboost_file(path: Path) -> Path:
    """JSON or binary JSON by the suffix."""
    import xgboost

    xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(*samples()).save_model(path)
    return path


def lightgbm_file(path: Path) -> Path:
    import lightgbm

    rows, classes = samples()
    data = lightgbm.Dataset(rows, classes)
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    lightgbm.train(parameters, data, num_boost_round=3).save_model(str(path))
    return path


def catboost_file(path: Path, targets: NDArray[Any] | None = None, loss: str = "MultiClass") -> Path:
    import catboost

    wanted = {"iterations": 3, "depth": 2, "loss_function": loss}
    model = catboost.CatBoostClassifier(**wanted, verbose=0, allow_writing_files=False, thread_count=1)
    rows, classes = samples()
    model.fit(rows, classes if targets is None else targets).save_model(str(path))
    return path


def hugging_face_directory(path: Path) -> Path:
    from safetensors.numpy import save_file

    path.mkdir()
    save_file({"embeddings": np.ones((8, 4), np.float32), "bias": np.zeros(4, np.float32)}, path / "model.safetensors")
    config = {"model_type": "bert", "architectures": ["BertModel"], "transformers_version": "4.57.0"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "vocab.txt").write_text("[PAD]\ncat\ndog\nhello\n")
    (path / "tokenizer.json").write_text(json.dumps({"added_tokens": ["[[[", "{{", "]"]}))
    return path


def export_archive(path: Path) -> Path:
    """What torch.export.save writes, as far as it tells of inputs and outputs."""
    tensor = {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 4}]}
    graph = {
        "nodes": [{"target": "torch.ops.aten.linear.default"}],
        "tensor_values": {"x": tensor, "linear": {"dtype": 7, "sizes": [{"as_expr": {}}, {"as_int": 2}]}},
    }
    signature = {
        "input_specs": [
            {"parameter": {"arg": {"name": "p_weight"}, "parameter_name": "weight"}},
            {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
        ],
        "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "linear"}}}}],
    }
    program = {
        "graph_module": {"graph": graph, "signature": signature},
        "schema_version": {"major": 8, "minor": 5},
        "torch_version": "2.8.0",
    }
    items = [
        ("model/archive_format", b"pt2"),
        ("model/models/model.json", json.dumps(program).encode()),
        ("model/data/weights/weight_0", b"\0" * 32),
        ("model/data/sample_inputs/model.pt", torch_saved(b"\x80\x02ccollections\nOrderedDict\n)R.")),
    ]
    return write(path, zipped_items(items, 0))


def triton_repository(path: Path) -> Path:
    """A Python model, an ONNX model of two versions without configuration, and an ensemble of the second."""
    python, doubling, ensemble = path / "adder", path / "double", path / "both"
    for directory in (python / "1", doubling / "1", doubling / "3", ensemble / "1"):
        directory.mkdir(parents=True)
    (python / "1" / "model.py").write_text("class TritonPythonModel:\n    def execute(self, requests): ...\n")
    (python / "config.pbtxt").write_text(
        'name: "adder" # kept to the letter\nbackend: "python"\nmax_batch_size: 8\n'
        'input { name: "A" data_type: TYPE_FP32 dims: 4 }\noutput { name: "B" data_type: TYPE_STRING dims: 1 }\n'
    )
    doubler(doubling / "1" / "model.onnx")
    doubler(doubling / "3" / "model.onnx", width=3)
    (ensemble / "config.pbtxt").write_text(
        'platform: "ensemble"\ninput { name: "x" data_type: TYPE_FP32 dims: [-1, 2] }\n'
        'output { name: "z" data_type: TYPE_FP32 dims: [-1, 2] }\n'
        'ensemble_scheduling { step { model_name: "double" model_version: -1 '
        'input_map { key: "x" value: "x" } output_map { key: "y" value: "z" } } }\n'
    )
    return path
