"""What sections of `params.yaml` are made of: their base class, and kinds of values."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Minutes = Annotated[float, Field(ge=0)]
"""Between checkpoints; 0 saves after every batch. The end of training and a stop save as well."""
Precision = Literal["no", "bf16", "fp16"]
CtrPrecision = Literal["no", "tf32", "bf16", "fp16"]
Residence = Literal["auto", "device", "file"]
Workers = Annotated[int, Field(ge=0, le=256)]

LAUNCH = (
    r"^--num_processes [1-9]\d*"
    r"( --(multi_gpu|num_machines [1-9]\d*|machine_rank \d+|main_process_ip [\w.:-]+"
    r"|main_process_port \d+|gpu_ids [\d,]+|rdzv_backend \w+|same_network))*$"
)
"""A flag that accelerate refuses would end the stage before it can say what is wrong."""
Launch = Annotated[str, Field(pattern=LAUNCH)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
