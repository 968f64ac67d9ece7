"""A framework's model to ONNX, with parity proven on samples.

In: a model of scikit-learn, XGBoost, LightGBM, CatBoost, torch, Hugging Face or Keras, and rows to try it on.
Out: `to_onnx(request)`: Converted (an artifact that answered every row as the framework does) or NotConverted (why).
Never: believing an exporter, unpickling what nobody trusted, running a framework in the caller's process.
Read: outcome.py, then attempts.py, then parity.py; networks/__init__.py for what torch runs.
"""

from taxiway.convert.isolation import check_places, to_onnx
from taxiway.convert.outcome import Converted, NotConverted, Parity, Reason, Request, Worst

__all__ = ["Converted", "NotConverted", "Parity", "Reason", "Request", "Worst", "check_places", "to_onnx"]
