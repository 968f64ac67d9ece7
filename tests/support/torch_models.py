"""One model of each form of torch's, and what torch itself answers: run in the environment that has torch.

python torch_models.py FOLDER      # writes FOLDER/repository, FOLDER/sources and FOLDER/expected.json
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import tokenizers
import torch
import transformers

MODULE = '''
"""Two arguments, a nested answer."""

import torch


class Net(torch.nn.Module):
    inputs = {"x": ("FP32", [-1, 4]), "scale": ("FP32", [-1, 1])}
    outputs = {"logits": ("FP32", [-1, 3]), "hidden": ("FP32", [-1, 8])}

    def __init__(self, width=8):
        super().__init__()
        self.first = torch.nn.Linear(4, width)
        self.second = torch.nn.Linear(width, 3)

    def forward(self, x, scale):
        hidden = torch.relu(self.first(x))
        return {"logits": self.second(hidden) * scale, "hidden": hidden}
'''
PAIR = '''
"""Two arguments, two answers."""

import torch


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor):
        return torch.softmax(self.first(x), dim=-1), x - y
'''
PAIR_CONFIG = """
max_batch_size: 16
input { name: "INPUT__0" data_type: TYPE_FP32 dims: 4 }
input { name: "INPUT__1" data_type: TYPE_FP32 dims: 4 }
output { name: "OUTPUT__1" data_type: TYPE_FP32 dims: 4 }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: 3 }
"""
HANDLER = """
import torch
from ts.torch_handler.base_handler import BaseHandler


class Classifier(BaseHandler):
    def preprocess(self, data):
        rows = [row.get("body") or row.get("data") for row in data]
        return torch.tensor([row["x"] for row in rows]).to(self.device)

    def inference(self, data):
        with torch.inference_mode():
            return self.model(data, torch.ones(len(data), 1))["logits"]
"""
SPECIAL = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
VOCABULARY = "the a cat dog sat ran on mat and it was good bad very not"
WORDS = [*SPECIAL.values(), *VOCABULARY.split()]
TEXTS = ["the cat sat on the mat", "a dog ran and it was not very good"]
MASKED = ["the [MASK] sat", "a dog [MASK] on the mat"]


def main(folder: Path) -> None:
    """Write all of it."""
    torch.manual_seed(4)
    repository, sources = folder / "repository", folder / "sources"
    sources.mkdir(parents=True)
    (sources / "module.py").write_text(MODULE)
    (sources / "pair.py").write_text(PAIR)
    sys.path.insert(0, str(sources))
    expected: dict[str, Any] = {}
    write_modules(repository, sources, expected)
    write_texts(repository, expected)
    (folder / "expected.json").write_text(json.dumps(expected))


def version(repository: Path, name: str) -> Path:
    """The directory of a model's only version."""
    path = repository / name / "1"
    path.mkdir(parents=True)
    return path


def write_modules(repository: Path, sources: Path, expected: dict[str, Any]) -> None:
    """TorchScript, exported programs, a class with weights, and an archive."""
    net, pair = importlib.import_module("module").Net().eval(), importlib.import_module("pair").Pair().eval()
    x, y, scale = torch.randn(5, 4), torch.randn(5, 4), torch.rand(5, 1)
    with torch.inference_mode():
        told, pairs = net(x, scale), pair(x, y)
        unscaled = net(x, torch.ones(5, 1))["logits"]
    expected["x"], expected["y"], expected["scale"] = x.tolist(), y.tolist(), scale.tolist()
    expected["net"] = {name: tensor.tolist() for name, tensor in told.items()}
    expected["pair"] = [tensor.tolist() for tensor in pairs]
    expected["archive"] = unscaled.tolist()

    rows = torch.export.Dim("rows", min=1, max=64)
    dims = {"x": {0: rows}, "scale": {0: rows}}
    exported = torch.export.export(net, (x[:2],), {"scale": scale[:2]}, dynamic_shapes=dims)
    torch.export.save(exported, version(repository, "exported") / "model.pt2")
    fixed = torch.export.export(pair, (x[:2], y[:2]))
    torch.export.save(fixed, version(repository, "fixed") / "model.pt2")

    torch.jit.script(pair).save(str(version(repository, "script") / "model.pt"))
    (repository / "script" / "config.pbtxt").write_text(PAIR_CONFIG)

    eager = version(repository, "eager")
    shutil.copy(sources / "module.py", eager / "module.py")
    safetensors.torch.save_file(net.state_dict(), eager / "weights.safetensors")
    parameters = 'parameters { key: "arguments" value { string_value: \'{"width": 8}\' } }'
    (repository / "eager" / "config.pbtxt").write_text(parameters)

    weights = sources / "weights.pt"
    torch.save(net.state_dict(), weights)
    torch.save(net, sources / "whole.pt")
    model = {
        "modelName": "net",
        "handler": "handler.py",
        "modelFile": "module.py",
        "serializedFile": "weights.pt",
        "configFile": "model-config.yaml",
    }
    with zipfile.ZipFile(version(repository, "archive") / "model.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model, "archiverVersion": "0.12.0"}))
        archive.writestr("handler.py", HANDLER)
        archive.writestr("model-config.yaml", "batchSize: 4\n")
        archive.write(sources / "module.py", "module.py")
        archive.write(weights, "weights.pt")


def tokenizer() -> Any:
    """Of a few words."""
    numbers = {word: number for number, word in enumerate(WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=SPECIAL["unk"]))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": word for name, word in SPECIAL.items()}
    names = ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=64, model_input_names=names, **special
    )


def write_texts(repository: Path, expected: dict[str, Any]) -> None:
    """A directory of Hugging Face's for each task, and what its own pipeline answers."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    bert = transformers.BertConfig(vocab_size=len(WORDS), num_labels=3, initializer_range=0.5, **size)
    gpt = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    made = {
        "classifier": transformers.BertForSequenceClassification(bert),
        "tagger": transformers.BertForTokenClassification(bert),
        "mask": transformers.BertForMaskedLM(bert),
        "encoder": transformers.BertModel(bert),
        "writer": transformers.GPT2LMHeadModel(gpt),
    }
    folders = {}
    for name, model in made.items():
        folders[name] = str(version(repository, name))
        model.eval().save_pretrained(folders[name])
        tokenizer().save_pretrained(folders[name])
    (repository / "writer" / "config.pbtxt").write_text(
        "parameters { key: 'max_new_tokens' value { string_value: '6' } }"
        "parameters { key: 'do_sample' value { string_value: 'false' } }"
    )
    pipeline = transformers.pipeline
    classifier = pipeline("text-classification", folders["classifier"])
    expected["classifier"] = [classifier(text, top_k=None) for text in TEXTS]
    tagger = pipeline("token-classification", folders["tagger"])
    expected["tagger"] = json.loads(json.dumps([tagger(text) for text in TEXTS], default=float))
    mask = pipeline("fill-mask", folders["mask"])
    expected["mask"] = [mask(text) for text in MASKED]
    features = pipeline("feature-extraction", folders["encoder"], return_tensors=True)
    expected["encoder"] = [features(text)[0].mean(0).tolist() for text in TEXTS]
    writer = pipeline("text-generation", folders["writer"])
    told = [writer(text, max_new_tokens=6, do_sample=False, return_full_text=False) for text in TEXTS]
    expected["writer"] = [one[0]["generated_text"] for one in told]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
