"""Networks of torch, Hugging Face and Keras to be converted: run in the environment that has them.

python torch_networks.py FOLDER      # writes one of each form
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Two(nn.Module):  # type: ignore[misc]
    """Two arguments, two answers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.first(x))
        return {"logits": self.second(hidden) * scale, "hidden": hidden}


class Recurrent(nn.Module):  # type: ignore[misc]
    """An LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(5, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.last(self.lstm(x)[0][:, -1])
        return answer


class Branching(nn.Module):  # type: ignore[misc]
    """A branch on the data: who exports it by tracing gets one side of it only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if bool(x.sum() > 0) else x - 3


class Spectral(nn.Module):  # type: ignore[misc]
    """An operator that ONNX does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x).real


class Scripted(nn.Module):  # type: ignore[misc]
    """A branch that TorchScript keeps."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if bool(x.sum() > 0):
            x = x * 2
        return torch.softmax(x, dim=-1), x - y


class Adjacent(nn.Module):  # type: ignore[misc]
    """Nodes of a graph and their neighbours: both arguments have as many rows, and neither has any number of them."""

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        return torch.relu(adjacency @ x)


class Several(nn.Module):  # type: ignore[misc]
    """It wants three rows at least."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._check(x.shape[0] >= 3)
        return x * 2


def two() -> Any:
    return Two(), (torch.randn(2, 4), torch.rand(2, 1))


def named() -> Any:
    return Two(), {"scale": torch.rand(1, 1), "x": torch.randn(1, 4)}


def convolving() -> Any:
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return nn.Sequential(*layers), torch.randn(1, 1, 8, 8)


def loading() -> Any:
    module = Two()
    module.load_state_dict(torch.load("weights.pt", weights_only=True))
    return module, (torch.randn(2, 4), torch.rand(2, 1))


def recurrent() -> Any:
    return Recurrent(), torch.randn(3, 7, 5)


def branching() -> Any:
    return Branching(), torch.rand(2, 3)


def spectral() -> Any:
    return Spectral(), torch.randn(2, 3, 3)


def adjacent() -> Any:
    return Adjacent(), (torch.randn(4, 8), torch.rand(4, 4))


def nothing() -> Any:
    return 3


def main(folder: Path) -> None:
    """Write the files and directories."""
    import transformers

    torch.manual_seed(3)
    module, (x, scale) = two()
    rows = torch.export.Dim("rows", min=1, max=64)
    shapes = {"x": {0: rows}, "scale": {0: rows}}
    program = torch.export.export(module.eval(), (x,), {"scale": scale}, dynamic_shapes=shapes)
    torch.export.save(program, folder / "exported.pt2")
    several = torch.export.export(Several(), (torch.randn(4, 4),), dynamic_shapes={"x": {0: torch.export.Dim.AUTO}})
    torch.export.save(several, folder / "several.pt2")
    torch.jit.script(Scripted()).save(str(folder / "scripted.pt"))
    torch.save(module, folder / "whole.pt")
    torch.save(module.state_dict(), folder / "weights.pt")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    bert = transformers.BertConfig(vocab_size=100, max_position_embeddings=64, **sizes)
    transformers.BertModel(bert).save_pretrained(folder / "encoder")
    bert.num_labels = 3
    transformers.BertForSequenceClassification(bert).save_pretrained(folder / "classifier")
    t5 = transformers.T5Config(vocab_size=100, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(t5).save_pretrained(folder / "translator")
    gpt = transformers.GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    transformers.GPT2LMHeadModel(gpt).save_pretrained(folder / "writer")
    write_keras(folder)


def write_keras(folder: Path) -> None:
    """A model with two inputs."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([left, right]))
    keras.Model([left, right], keras.layers.Dense(2, activation="softmax")(hidden)).save(folder / "two.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
