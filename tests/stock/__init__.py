"""Stock runtimes in a process without EdgeML: is a file that we make what we say it is?"""

from tests.stock.bundles import answers
from tests.stock.client import StockError, about, onnx, tflite

__all__ = ["StockError", "about", "answers", "onnx", "tflite"]
