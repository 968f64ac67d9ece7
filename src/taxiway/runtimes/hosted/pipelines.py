"""What Hugging Face's models do, task by task: texts in, arrays out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from taxiway.core.errors import InvalidModel, UntrustedPickle
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.trust import how_to_trust, is_trusted

_GENERATION = (
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
    "repetition_penalty",
    "seed",
)
_BY_ARCHITECTURE = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "Model": "feature-extraction",
}
"""What an architecture's name ends with, and the task that it is for."""


class Task(Protocol):
    """A loaded model that does one thing.

    Attributes:
        outputs: what it answers, whole shapes.
    """

    outputs: Sequence[Declared]

    def answer(self, texts: Sequence[str]) -> Arrays:
        """The outputs of these texts, row by row."""


class Directory:
    """A Hugging Face directory, and what of it may be believed.

    Attributes:
        path: where it is.
        config: config.json.
        loading: how everything in it is loaded: nothing from elsewhere, and no code that nobody vouched for.
        has_code: whether it names code of its own; untrusted: what of that is not to be run.
        safetensors: whether its weights are; if not, they are pickles that were vouched for.
    """

    def __init__(self, path: Path, trusted: frozenset[str]) -> None:
        self.path = path
        try:
            self.config: Mapping[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise InvalidModel(f"{path / 'config.json'} cannot be read: {problem}") from problem
        self.has_code = bool(self.config.get("auto_map"))
        code = sorted(path.rglob("*.py"))
        trusts = self.has_code and all(is_trusted(one, trusted) for one in code)
        self.untrusted = [] if trusts else code
        self.loading = {"local_files_only": True, "trust_remote_code": trusts}
        self.safetensors = self._has_safetensors(trusted)

    def task(self, asked: str | None) -> str:
        """What it is for: as asked, or as its architecture says.

        Raises:
            InvalidModel: neither says.
        """
        if asked:
            return asked
        names = [str(name) for name in self.config.get("architectures") or ()]
        for ending, task in _BY_ARCHITECTURE.items():
            if any(name.endswith(ending) for name in names):
                return task
        raise InvalidModel(
            f"{self.path / 'config.json'} names the architectures {names}, and none of them says a task",
            hint="say it: parameters { key: 'task' value { string_value: 'text-classification' } }",
        )

    def _has_safetensors(self, trusted: frozenset[str]) -> bool:
        """Whether the weights are in safetensors; if not, they are pickles that were vouched for.

        Raises:
            UntrustedPickle: they are pickles, and were not.
        """
        if any(self.path.glob("*.safetensors")):
            return True
        for path in sorted(self.path.glob("*.bin")):
            if not is_trusted(path, trusted):
                raise UntrustedPickle(
                    f"{path} is a pickle",
                    hint="save the model with save_pretrained, as safetensors; " + how_to_trust(path),
                )
        return False


def open_task(directory: Directory, options: Mapping[str, str], device: torch.device) -> Task:
    """The model in a directory, ready for its task.

    Raises:
        InvalidModel: it cannot be loaded, or is for a task that is not done here.
    """
    task = directory.task(options.get("task"))
    kind = _TASKS.get(task)
    if kind is None:
        raise InvalidModel(f"task {task!r} is not done here", hint=f"there are {', '.join(sorted(_TASKS))}")
    try:
        return kind(directory, options, device)
    except (OSError, ValueError, RuntimeError, KeyError) as problem:
        if directory.has_code and directory.untrusted:
            path = directory.untrusted[0]
            told = f"{path} is code of the model's own, without which it cannot be loaded: {problem}"
            raise UntrustedPickle(told, hint=how_to_trust(path)) from problem
        raise InvalidModel(f"{directory.path} cannot be loaded for {task!r}: {problem}") from problem


def _pipeline(directory: Directory, task: str, device: torch.device) -> Any:  # noqa: ANN401 - a pipeline
    """Hugging Face's own way of doing a task; it fetches nothing, since the process is told that it is offline."""
    made = transformers.pipeline(
        task,
        model=str(directory.path),
        device=device,
        trust_remote_code=directory.loading["trust_remote_code"],
        model_kwargs={"use_safetensors": directory.safetensors},
    )
    made.model.eval()
    return made


class Classification:
    """A text's label: the best one, its score, and the scores of all in the order of their numbers."""

    def __init__(self, directory: Directory, _options: Mapping[str, str], device: torch.device) -> None:
        self._pipeline = _pipeline(directory, "text-classification", device)
        labels = self._pipeline.model.config.id2label
        self._order = [labels[number] for number in sorted(labels)]
        self.outputs: Sequence[Declared] = (
            Declared("label", "BYTES", (-1, 1)),
            Declared("score", "FP32", (-1, 1)),
            Declared("scores", "FP32", (-1, len(self._order))),
        )

    def answer(self, texts: Sequence[str]) -> Arrays:
        """The labels of these texts."""
        told = self._pipeline(list(texts), top_k=None, truncation=True, batch_size=_together(self._pipeline, texts))
        by_label = [{one["label"]: one["score"] for one in row} for row in told]
        scores = np.array([[row[label] for label in self._order] for row in by_label], np.float32)
        best = scores.argmax(axis=1)
        return {
            "label": _column([self._order[number] for number in best]),
            "score": scores[np.arange(len(best)), best].reshape(-1, 1),
            "scores": scores,
        }


class Entities:
    """What the words of a text are: a JSON list of entities."""

    def __init__(self, directory: Directory, options: Mapping[str, str], device: torch.device) -> None:
        self._pipeline = _pipeline(directory, "token-classification", device)
        self._strategy = options.get("aggregation_strategy", "none")
        self.outputs: Sequence[Declared] = (Declared("entities", "BYTES", (-1, 1)),)

    def answer(self, texts: Sequence[str]) -> Arrays:
        """The entities of these texts."""
        together = _together(self._pipeline, texts)
        told = self._pipeline(list(texts), aggregation_strategy=self._strategy, batch_size=together)
        rows = told if not told or isinstance(told[0], list) else [told]
        return {"entities": _column([json.dumps(row, default=float) for row in rows])}


class FilledMask:
    """The likeliest words for the mask in a text."""

    def __init__(self, directory: Directory, options: Mapping[str, str], device: torch.device) -> None:
        self._pipeline = _pipeline(directory, "fill-mask", device)
        self._count = int(options.get("top_k", "5"))
        count = self._count
        self.outputs: Sequence[Declared] = (
            Declared("tokens", "BYTES", (-1, count)),
            Declared("scores", "FP32", (-1, count)),
            Declared("sequences", "BYTES", (-1, count)),
        )

    def answer(self, texts: Sequence[str]) -> Arrays:
        """The words for the masks of these texts."""
        told = self._pipeline(list(texts), top_k=self._count, batch_size=_together(self._pipeline, texts))
        rows = told if isinstance(told[0], list) else [told]
        return {
            "tokens": _grid([[one["token_str"] for one in row] for row in rows]),
            "scores": np.array([[one["score"] for one in row] for row in rows], np.float32),
            "sequences": _grid([[one["sequence"] for one in row] for row in rows]),
        }


class Generation:
    """How a text goes on."""

    def __init__(self, directory: Directory, options: Mapping[str, str], device: torch.device) -> None:
        self._pipeline = _pipeline(directory, "text-generation", device)
        self._pipeline.tokenizer.padding_side = "left"  # or padding would stand between a text and how it goes on
        self._options = {name: json.loads(options[name]) for name in _GENERATION if name in options}
        self._full = options.get("return_full_text", "false") == "true"
        self.outputs: Sequence[Declared] = (Declared("generated_text", "BYTES", (-1, 1)),)

    def answer(self, texts: Sequence[str]) -> Arrays:
        """How these texts go on."""
        together = _together(self._pipeline, texts)
        told = self._pipeline(list(texts), return_full_text=self._full, batch_size=together, **self._options)
        return {"generated_text": _column([row[0]["generated_text"] for row in told])}


class Embedding:
    """A text as one vector: of its words' vectors the mean, or the first, as sentence-transformers says it."""

    def __init__(self, directory: Directory, options: Mapping[str, str], device: torch.device) -> None:
        self._device = device
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(directory.path, **directory.loading)
        self._model = transformers.AutoModel.from_pretrained(
            directory.path, use_safetensors=directory.safetensors, **directory.loading
        )
        self._model.to(device).eval()
        first, normalizes = _sentence_settings(directory.path)
        self._first = options.get("pooling", "cls" if first else "mean") == "cls"
        self._normalizes = options.get("normalize", "true" if normalizes else "false") == "true"
        self.outputs: Sequence[Declared] = (Declared("embedding", "FP32", (-1, int(self._model.config.hidden_size))),)

    def answer(self, texts: Sequence[str]) -> Arrays:
        """The vectors of these texts."""
        tokens = self._tokenizer(list(texts), padding=len(texts) > 1, truncation=True, return_tensors="pt")
        tokens = tokens.to(self._device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state.float()
            vectors = states[:, 0] if self._first else _mean(states, tokens["attention_mask"])
            if self._normalizes:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
        return {"embedding": vectors.cpu().numpy()}


def _mean(states: Any, mask: Any) -> Any:  # noqa: ANN401 - tensors
    """The mean over the words that are there."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _sentence_settings(path: Path) -> tuple[bool, bool]:
    """Whether a directory of sentence-transformers pools by the first word, and whether it normalizes."""
    pooling, modules = path / "1_Pooling" / "config.json", path / "modules.json"
    first = pooling.is_file() and bool(json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_cls_token"))
    listed = json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else []
    return first, any(str(one.get("type", "")).endswith("Normalize") for one in listed)


def _together(pipeline: Any, texts: Sequence[str]) -> int:  # noqa: ANN401
    """How many texts may be run at once: one, where nothing can pad the shorter ones."""
    return len(texts) if pipeline.tokenizer.pad_token_id is not None else 1


def _column(texts: Sequence[str]) -> NDArray[Any]:
    return _grid([[text] for text in texts])


def _grid(rows: Sequence[Sequence[str]]) -> NDArray[Any]:
    grid = np.empty((len(rows), len(rows[0])), dtype=object)
    for place, row in enumerate(rows):
        grid[place, :] = [text.encode() for text in row]
    return grid


_TASKS: Mapping[str, Callable[[Directory, Mapping[str, str], torch.device], Task]] = {
    "text-classification": Classification,
    "token-classification": Entities,
    "fill-mask": FilledMask,
    "text-generation": Generation,
    "feature-extraction": Embedding,
}
