"""Writes the form of a network that peers compute with integers of eight bits: `python int8_form.py MODEL FOLDER`.

`model.int8.onnx` beside `model.onnx`: quantised after training by ONNX Runtime's tool as its manual advises for this kind of
machine, activations unsigned for the tensor, weights signed for each channel, with pairs of quantising and dequantising nodes,
which ONNX Runtime and OpenVINO turn into integer kernels.
"""

import logging
import pathlib
import sys
import warnings

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from peers_models import INFER

# Batches of random numbers that ranges are taken of: the networks are random, too.
BATCHES = 8


class Batches(CalibrationDataReader):
    def __init__(self, name: str, make):
        self.left = iter([{name: make().numpy()} for _ in range(BATCHES)])

    def get_next(self):
        return next(self.left, None)


def main():
    import onnx

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    name = onnx.load(folder / "model.onnx", load_external_data=False).graph.input[0].name
    quant_pre_process(folder / "model.onnx", folder / "model.pre.onnx", skip_symbolic_shape=True)
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    batches = Batches(name, INFER[model][1])
    form = {"quant_format": QuantFormat.QDQ, "per_channel": True}
    quantize_static(folder / "model.pre.onnx", folder / "model.int8.onnx", batches, **form, **kinds)


if __name__ == "__main__":
    main()
