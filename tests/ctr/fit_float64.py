"""`fit` in float64 on the world in the working directory; curve and weights into safetensors.

A program of its own, for a launcher to start in several processes.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from safetensors.numpy import save_file

from ctr import train, training
from ctr.machine import open_accelerator
from ctr.model import ItemTable
from ctr.qin import QIN
from pipeline.params import load_params


def main(result: str) -> None:
    settings = load_params().train
    accelerator = open_accelerator("train", settings.mixed_precision)
    data = train.load_data(settings, accelerator)
    torch.manual_seed(settings.seed)
    model = QIN(train.model_config(settings, data.items)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    items = ItemTable(*(c.double() if c.is_floating_point() else c for c in data.items))
    trained = training.fit(model, replace(data, items=items), settings, accelerator)
    if accelerator.is_main_process:
        arrays = {name: weight.numpy() for name, weight in trained.weights.items()}
        for name in trained.curve[0]:
            arrays[name] = np.array([entry[name] for entry in trained.curve])
        save_file(arrays, result)


if __name__ == "__main__":
    main(sys.argv[1])
