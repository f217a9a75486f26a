"""`fit` in float64 on the world in the working directory, in one process or in several."""

import os
import socket
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from ctr import train
from ctr.engine import loop
from ctr.engine.machine import open_accelerator
from ctr.models.architecture import build_model, model_config
from ctr.models.base import ItemTable
from pipeline.settings.params import load_params

TIMEOUT = 120
"""Seconds."""


def fit(result: Path) -> None:
    """The main process writes curve and weights to `result`, as safetensors."""
    settings = load_params().train
    accelerator = open_accelerator("train", settings.mixed_precision)
    data = train.load_data(settings, accelerator)
    torch.manual_seed(settings.seed)
    config = model_config(settings, data.items, len(data.train.columns))
    model = build_model(config, settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    data = replace(data, items=in_double(data.items))
    if data.new:
        data = replace(data, new=replace(data.new, items=in_double(data.new.items)))
    trained = loop.fit(model, data, settings, accelerator)
    if accelerator.is_main_process:
        arrays = {name: weight.numpy() for name, weight in trained.weights.items()}
        for name in trained.curve[0]:
            arrays[name] = np.array([entry[name] for entry in trained.curve])
        save_file(arrays, result)
    accelerator.end_training()


def in_double(items: ItemTable) -> ItemTable:
    return ItemTable(*(x.double() if x.is_floating_point() else x for x in items))


def fit_together(count: int, result: Path) -> None:
    """`fit` in `count` processes, with the environment that a launcher gives them.

    They fork from a process that has imported `ctr` and done nothing else.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([train.__name__])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in range(count):
        environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = context.Process(target=fit_as_one_of, args=(Path.cwd(), environment, result))
        process.start()
        processes.append(process)
    for process in processes:
        process.join(TIMEOUT)
        process.kill()  # if it still runs
    assert [process.exitcode for process in processes] == [0] * count


def fit_as_one_of(folder: Path, environment: dict[str, str], result: Path) -> None:
    os.chdir(folder)
    os.environ |= environment | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)
    fit(result)


CURVE = ("train_loss", "auc", "gauc", "logloss", "learning_rate")


def assert_equal_but_for_rounding(alone: Path, together: Path, epochs: int) -> None:
    """What `fit` and `fit_together` have written; losses must differ between epochs."""
    one, several = load_file(alone), load_file(together)
    assert set(one) == set(several)
    assert len(one["train_loss"]) == epochs
    assert (np.abs(np.diff(one["train_loss"])) > 1e-3).all()
    for name, expected in one.items():
        # The weights are Adam's, which divides gradients by their size: small ones by little.
        tolerance = 1e-10 if name in CURVE else 1e-6
        np.testing.assert_allclose(several[name], expected, 0, tolerance, err_msg=name)
