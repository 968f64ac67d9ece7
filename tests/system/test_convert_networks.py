"""Networks become ONNX by whichever of torch's exporters is right and faster; torch is in an environment of its own."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tools.environments import EnvironmentUnavailable
from tools.torch_environment import ensure_torch

from taxiway.convert import Converted, NotConverted, Reason, Request, to_onnx
from taxiway.core.errors import InvalidModel, UntrustedPickle
from taxiway.intake.converting import to_onnx_scanned

NETWORKS = Path(__file__).parents[1] / "support" / "torch_networks.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return ensure_torch()
    except EnvironmentUnavailable as problem:
        pytest.skip(f"torch cannot be had here: {problem}")


@pytest.fixture(scope="module")
def made(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    done = subprocess.run(
        [str(python), "-W", "ignore", str(NETWORKS), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.savez(folder / "rows.npz", x=rows[0], y=rows[1])
    return folder


class Converter:
    """Converts under the Python that has torch."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def __call__(self, source: Path | str, samples: str | None = None) -> Converted | NotConverted:
        target = self.folder / "model.onnx"
        return to_onnx_scanned(
            Request(source=str(source), target=str(target), python=str(self.python), samples=samples)
        )

    def success(self, source: Path | str, samples: str | None = None) -> Converted:
        outcome = self(source, samples)
        assert isinstance(outcome, Converted), outcome.message
        assert outcome.parity.holds
        return outcome

    def failure(self, source: Path | str, samples: str | None = None) -> NotConverted:
        outcome = self(source, samples)
        assert isinstance(outcome, NotConverted)
        assert not (self.folder / "model.onnx").exists()
        return outcome


@pytest.fixture
def convert(python: Path, tmp_path: Path) -> Converter:
    return Converter(python, tmp_path)


def signature(outcome: Converted) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {one.name: (one.datatype, one.shape) for one in (*outcome.inputs, *outcome.outputs)}


# --- what is converted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["two", "named"])
def test_a_function_gives_a_module_and_examples(function: str, convert: Converter) -> None:
    outcome = convert.success(f"{NETWORKS}:{function}")
    assert signature(outcome) == {
        "x": ("FP32", (-1, 4)), "scale": ("FP32", (-1, 1)), "logits": ("FP32", (-1, 3)), "hidden": ("FP32", (-1, 8)),
    }  # fmt: skip
    assert {1, 2, 5} <= set(outcome.parity.batches)
    assert outcome.versions["torch"]


def test_both_exporters_are_tried_and_the_better_is_kept(convert: Converter) -> None:
    outcome = convert.success(f"{NETWORKS}:convolving")
    assert {one.exporter for one in outcome.candidates} == {"torch.onnx (dynamo)", "torch.onnx (TorchScript)"}
    kept = next(one for one in outcome.candidates if one.exporter == outcome.converter)
    assert kept.size_bytes == outcome.size_bytes
    assert all(kept.cpu_ms <= one.cpu_ms * 1.03 for one in outcome.candidates)
    content = Path(outcome.target).read_bytes()
    assert hashlib.sha256(content).hexdigest() == outcome.digest


def test_a_function_finds_its_files_and_module_where_the_caller_stands(
    made: Path, convert: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "nets_here.py").write_bytes(NETWORKS.read_bytes())
    monkeypatch.chdir(made)
    assert convert.success("nets_here:loading").framework == "torch"


def test_arguments_that_only_happen_to_be_as_long_keep_their_sizes(convert: Converter) -> None:
    outcome = convert.success(f"{NETWORKS}:adjacent")
    assert signature(outcome) == {
        "x": ("FP32", (4, 8)), "adjacency": ("FP32", (4, 4)), "output__0": ("FP32", (4, 8)),
    }  # fmt: skip


def test_an_lstm(convert: Converter) -> None:
    assert signature(convert.success(f"{NETWORKS}:recurrent"))["x"] == ("FP32", (-1, 7, 5))


def test_an_exported_program_says_itself_what_is_free(made: Path, convert: Converter) -> None:
    outcome = convert.success(made / "exported.pt2")
    assert signature(outcome)["x"] == ("FP32", (-1, 4))
    assert len(outcome.candidates) + len(outcome.attempts) == 2


def test_torchscript_keeps_its_branches(made: Path, convert: Converter) -> None:
    """Answers on both sides of the branch are those of torch: the samples, and the same turned over."""
    outcome = convert.success(made / "scripted.pt", samples=str(made / "rows.npz"))
    session = onnxruntime.InferenceSession(outcome.target)
    x, y = np.full((4, 4), 1.5, np.float32), np.ones((4, 4), np.float32)
    np.testing.assert_allclose(session.run(["output__1"], {"x": x, "y": y})[0], 2 * x - y)
    np.testing.assert_allclose(session.run(["output__1"], {"x": -x, "y": y})[0], -x - y)


@pytest.mark.parametrize(("directory", "output"), [("encoder", "last_hidden_state"), ("classifier", "logits")])
def test_a_directory_of_hugging_face(directory: str, output: str, made: Path, convert: Converter) -> None:
    outcome = convert.success(made / directory)
    told = signature(outcome)
    assert told["input_ids"] == told["attention_mask"] == told["token_type_ids"] == ("INT64", (-1, -1))
    assert told[output][1][0] == -1
    tokens = np.ones((3, 11), np.int64)
    feeds = dict.fromkeys(("input_ids", "attention_mask"), tokens) | {"token_type_ids": 0 * tokens}
    (answer,) = onnxruntime.InferenceSession(outcome.target).run([output], feeds)
    assert answer.shape == ((3, 11, 32) if directory == "encoder" else (3, 3))


def test_a_model_of_keras(made: Path, convert: Converter) -> None:
    outcome = convert.success(made / "two.keras")
    assert (signature(outcome)["left"], signature(outcome)["right"]) == (("FP32", (-1, 4)), ("FP32", (-1, 3)))
    assert outcome.versions["keras"]


# --- what is refused -----------------------------------------------------------------------------------


def test_a_branch_that_tracing_would_freeze_is_found_out(convert: Converter) -> None:
    outcome = convert.failure(f"{NETWORKS}:branching")
    assert outcome.reason is Reason.PARITY_FAILED
    parity = outcome.attempts[-1].parity
    assert parity is not None
    assert parity.worst is not None
    assert parity.worst.origin == "like the examples"


def test_operators_without_onnx_are_named(convert: Converter) -> None:
    outcome = convert.failure(f"{NETWORKS}:spectral")
    assert outcome.reason is Reason.UNSUPPORTED
    assert "eig" in outcome.message


def test_torchscript_without_samples_says_what_to_give(made: Path, convert: Converter) -> None:
    outcome = convert.failure(made / "scripted.pt")
    assert outcome.reason is Reason.BAD_SAMPLES
    assert "(x, y)" in outcome.message
    assert "--samples" in outcome.hint


def test_samples_without_an_argument_name_it(made: Path, convert: Converter, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    outcome = convert.failure(made / "scripted.pt", samples=str(tmp_path / "x.npz"))
    assert outcome.reason is Reason.BAD_SAMPLES
    assert "'y'" in outcome.message


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_pickled_module_is_not_read(made: Path, convert: Converter) -> None:
    with pytest.raises(UntrustedPickle) as refused:
        convert(made / "whole.pt")
    assert digest(made / "whole.pt") in refused.value.hint


@pytest.mark.parametrize("name", ["whole.pt", "exported.pt2", "scripted.pt"])
def test_a_file_that_was_not_scanned_is_not_read(name: str, made: Path, python: Path, tmp_path: Path) -> None:
    for scanned in (None, "0" * 64):
        outcome = to_onnx(
            Request(
                source=str(made / name),
                target=str(tmp_path / "model.onnx"),
                python=str(python),
                samples=str(made / "rows.npz"),
                scanned_digest=scanned,
            )
        )
        assert isinstance(outcome, NotConverted)
        assert outcome.reason is Reason.UNTRUSTED
        assert digest(made / name) in outcome.hint


def test_a_program_that_was_not_scanned_is_read_if_it_is_trusted(made: Path, python: Path, tmp_path: Path) -> None:
    source = made / "exported.pt2"
    outcome = to_onnx(
        Request(source=str(source), target=str(tmp_path / "m.onnx"), python=str(python), trusted_digest=digest(source))
    )
    assert isinstance(outcome, Converted), outcome.message


def test_sizes_that_torch_itself_refuses_are_told(made: Path, convert: Converter, tmp_path: Path) -> None:
    """The program wants three rows at least, which only torch knows how to tell."""
    np.savez(tmp_path / "rows.npz", x=np.ones((4, 4), np.float32))
    outcome = convert.failure(made / "several.pt2", samples=str(tmp_path / "rows.npz"))
    assert outcome.reason is Reason.UNSUPPORTED
    assert "torch itself fails on arguments of the sizes x [1, 4]" in outcome.message
    assert "torch.export.Dim" in outcome.hint


@pytest.mark.parametrize(("function", "why"), [("nothing", "returned int"), ("absent", "has no function 'absent'")])
def test_a_function_that_gives_no_module(function: str, why: str, convert: Converter) -> None:
    outcome = convert.failure(f"{NETWORKS}:{function}")
    assert outcome.reason is Reason.UNREADABLE
    assert why in outcome.message


@pytest.mark.parametrize(("directory", "name"), [("translator", "T5Model"), ("writer", "GPT2LMHeadModel")])
def test_what_writes_texts_is_not_converted(directory: str, name: str, made: Path, convert: Converter) -> None:
    outcome = convert.failure(made / directory)
    assert outcome.reason is Reason.UNSUPPORTED
    assert name in outcome.message


def test_files_that_are_not_what_their_names_say(convert: Converter, tmp_path: Path) -> None:
    for name in ("model.keras", "config.json"):
        (tmp_path / name).write_bytes(b"not a model")
        source = tmp_path if name == "config.json" else tmp_path / name
        assert convert.failure(source).reason is Reason.UNREADABLE
    (tmp_path / "model.pt2").write_bytes(b"not a model")
    with pytest.raises(InvalidModel, match="neither an exported program nor TorchScript"):
        convert(tmp_path / "model.pt2")
