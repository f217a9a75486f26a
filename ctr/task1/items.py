"""The items as Task 1's file has them, which DIN reads."""

from pathlib import Path

import numpy as np
import torch

from ctr.models.base import ItemTable
from pipeline.common import paths
from pipeline.common.files import InputError, read_json
from pipeline.tables.item_info import read_item_info


def load_judged_items(file: Path, device: torch.device) -> ItemTable:
    """Every item's features on `device`, from Task 1's file alone; it has no neighbours.

    Raises InputError if the file breaks the organisers' schema or has another number of items.
    """
    stats = read_json(paths.STATS)
    info = read_item_info(file, tags=None)
    if len(info.item_id) != stats["items"] + 1:
        raise InputError(
            f"{file}: has {len(info.item_id) - 1} items, the source has {stats['items']}; "
            "expected one row for each of them after the padding row"
        )
    present = np.unique(np.append(0, info.tags))
    id = torch.arange(len(info.item_id), dtype=torch.int32)
    table = ItemTable(
        id=id,
        tags=torch.from_numpy(np.searchsorted(present, info.tags).astype(np.int32)),
        content=torch.from_numpy(info.vectors.copy()),
        neighbors=id.new_zeros((len(id), 0)),
        cosine=torch.zeros((len(id), 0)),
    )
    return ItemTable(*(column.to(device) for column in table))
