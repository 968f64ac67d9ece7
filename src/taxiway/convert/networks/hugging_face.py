"""Hugging Face directories: encoders, and what classifies texts; their weights in safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from taxiway.convert.networks.network import BATCH, SEQUENCE, Feeds, Network, Sizes
from taxiway.convert.outcome import Reason, Refused

_LONGEST: Final = 64
_KINDS: Final = {
    "ForSequenceClassification": (transformers.AutoModelForSequenceClassification, "logits"),
    "Model": (transformers.AutoModel, "last_hidden_state"),
}
"""What an architecture's name ends with: how it is loaded, and what of its answer is kept."""
_WRITERS: Final = ("LMHeadModel", "DoubleHeadsModel")
"""Those end so as well, and are no encoders."""


def load(directory: Path) -> Network:
    """The model in a directory, with free rows and tokens.

    Raises:
        Refused: it is no encoder, its weights are pickles, or transformers does not load it.
    """
    config = _config(directory)
    kind, output = _kind(directory, config)
    if not any(directory.glob("*.safetensors")):
        raise Refused(
            Reason.UNTRUSTED, f"{directory} has no weights in safetensors", "save the model with save_pretrained"
        )
    try:
        model = kind.from_pretrained(
            str(directory),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",
            dtype=torch.float32,
        )
    except Exception as problem:
        raise Refused(
            Reason.UNREADABLE,
            f"transformers does not load {directory}: {type(problem).__name__}: {str(problem)[:300]}",
            "see that AutoModel.from_pretrained loads it without code of its own",
        ) from problem
    model.eval()
    has_types = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
    words = int(model.config.vocab_size)
    module = _WithTypes(model, output) if has_types else _Plain(model, output)

    def sample(sizes: Sizes, chance: np.random.Generator) -> Feeds:
        return _tokens(sizes[BATCH], sizes[SEQUENCE], words, has_types, chance)

    examples = sample({BATCH: 2, SEQUENCE: 16}, np.random.default_rng(0))
    longest = int(getattr(model.config, "max_position_embeddings", _LONGEST) or _LONGEST)
    return Network(
        "transformers",
        module,
        examples,
        {name: {0: BATCH, 1: SEQUENCE} for name in examples},
        ("torch", "transformers", "onnxscript"),
        most={SEQUENCE: longest - 2},
        sample=sample,
    )


def _config(directory: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise Refused(
            Reason.UNREADABLE,
            f"{directory / 'config.json'} cannot be read: {problem}",
            "give the directory that save_pretrained wrote",
        ) from problem
    return config


def _kind(directory: Path, config: dict[str, Any]) -> tuple[Any, str]:
    names = [str(name) for name in config.get("architectures") or ()]
    plain = [name for name in names if not name.endswith(_WRITERS)]
    found = next((kind for end, kind in _KINDS.items() if any(name.endswith(end) for name in plain)), None)
    if found is None or config.get("is_encoder_decoder") or not config.get("vocab_size"):
        raise Refused(
            Reason.UNSUPPORTED,
            f"{directory / 'config.json'} names the architectures {names}; encoders (...Model) and "
            "...ForSequenceClassification of texts are converted",
            "let transformers serve it",
        )
    return found


class _Plain(torch.nn.Module):  # type: ignore[misc]
    """Tokens in, one tensor out."""

    def __init__(self, model: Any, output: str) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        answered = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return {self.output: answered[self.output]}


class _WithTypes(_Plain):
    """The same, where a token says which of two texts it is of."""

    def forward(  # type: ignore[override]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        answered = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return {self.output: answered[self.output]}


def _tokens(rows: int, length: int, words: int, has_types: bool, chance: np.random.Generator) -> Feeds:
    """Texts of different lengths, padded."""
    lengths = chance.integers(max(1, length // 2), length + 1, rows)
    lengths[0] = length
    mask: NDArray[np.int64] = (np.arange(length) < lengths[:, None]).astype(np.int64)
    feeds = {"input_ids": chance.integers(1, words, (rows, length)) * mask, "attention_mask": mask}
    if has_types:
        feeds["token_type_ids"] = (np.arange(length) >= length // 2).astype(np.int64) * mask
    return feeds
