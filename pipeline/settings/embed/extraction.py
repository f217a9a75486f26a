"""What the sections of the three embedding stages share."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Count, Launch, Precision, Section, Workers


class Extraction(Section):
    """What the three embedding stages share."""

    model: Annotated[str, Field(min_length=1)]
    revision: str
    """Of a model from the hub: branch, tag or commit; empty for the newest."""
    local: Annotated[str, Field(min_length=1)]
    """A file or folder on this disk that weights are read from: DVC watches it. It has to be there,
    also where weights come from the hub."""
    batch_size: Count
    shard_size: Count
    """Items a shard: what a run that was killed has to do again at most, in each process."""
    workers: Workers
    """Processes that prepare batches for each process of the launch; 0 prepares them in it."""
    mixed_precision: Precision
    """Takes effect on a GPU."""
    launch: Launch
    """Flags of `accelerate launch` for this stage; shards are split over all processes."""


class WithOpenClip(Extraction):
    """What the two of them share that know open_clip's models."""

    pretrained: str
    """open_clip's weights tag; empty where the model brings its own weights."""
