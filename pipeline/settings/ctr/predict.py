"""Section `predict` of `params.yaml`."""

from pipeline.common.section import Count, CtrPrecision, Section


class Predict(Section):
    """`predict`: scoring valid and test."""

    batch_size: Count
    mixed_precision: CtrPrecision
